"""What each operation of a compiled step costs, and which layer and phase it belongs to."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from imagenet_jax.study.chips import Chip
from imagenet_jax.study.hlo import Instruction, Module, plain_shape, shape_bytes, sides_of
from imagenet_jax.study.traffic import memory_traffic

PHASES = ("input", "teacher", "forward", "backward", "optimizer", "collectives", "other")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# These move no data of their own: names for parts of others, or the end of what was started.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota")
# A GPU kernel cannot take less: start, end and drain (launches themselves overlap).
GPU_KERNEL_SECONDS = 2e-6
# Parts of a path that JAX's transformations and einsum put between modules, and our own methods.
_NO_MODULE = re.compile(r"(jit|vmap)\(|.*->|checkpoint$|rematted_computation$|.*\._")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One kernel, or one fusion of a TPU program.

    Attributes:
      name, kind: kind is "convolution", "matmul", "fusion", "copy", a collective, or the opcode.
      layer: path of the module, e.g. "layer1.0/conv2"; "" outside the model.
      phase: one of PHASES.
      shape: of the result, with layout.
      source: FILE:LINE.
      seconds: predicted: on a TPU the compiler's estimated cycles over the clock, on a GPU and
        CPU the time on the roofline.
      bytes: read from HBM and written to it, see `traffic.memory_traffic`.
      flops: of the products and convolutions in it.
      count: how often it runs in a step.
    """

    name: str
    kind: str
    layer: str
    phase: str
    shape: str
    source: str
    seconds: float
    bytes: float
    flops: float
    count: int


def list_operations(module: Module, chip: Chip) -> list[Operation]:
    """The operations of a step in the order of the schedule."""
    return [
        _operation(module, instruction, times, chip)
        for instruction, times in module.main()
        if instruction.opcode not in _FREE and not instruction.opcode.endswith("-done")
    ]


def _operation(module: Module, instruction: Instruction, times: int, chip: Chip) -> Operation:
    inner = module.inside(instruction)
    flops = float(sum(flops_of(module, one) for one in inner))
    num_bytes = memory_traffic(module, instruction)
    opcode = instruction.opcode.removesuffix("-start")
    kind = _kind(opcode, instruction, inner)
    if kind in COLLECTIVES or (chip.platform == "tpu" and instruction.opcode.endswith("-start")):
        seconds = (
            0.0  # the former are reckoned by `chips`, copies that are started run beside others
        )
    elif chip.platform == "tpu":
        seconds = instruction.cycles / chip.clock
    else:
        least = GPU_KERNEL_SECONDS if chip.platform == "gpu" else 0.0
        seconds = max(chip.roofline_seconds(flops, num_bytes), least)
    # XLA gives some fusions no name of their own; the last named operation inside stands for all.
    names = [one.op_name for one in (*inner, instruction) if one.op_name]
    layer, phase = place(instruction.op_name or (names[-1] if names else ""), kind)
    return Operation(
        name=instruction.name,
        kind=kind,
        layer=layer,
        phase=phase,
        shape=plain_shape(instruction.shape),
        source=module.source(instruction),
        seconds=seconds * times,
        bytes=float(num_bytes) * times,
        flops=flops * times,
        count=times,
    )


def _kind(opcode: str, instruction: Instruction, inner: list[Instruction]) -> str:
    codes = {one.opcode for one in inner}
    target = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    if "convolution" in codes or (target and "conv" in target[1]):
        return "convolution"
    if "dot" in codes or (target and ("gemm" in target[1] or "matmul" in target[1])):
        return "matmul"
    return opcode if opcode != "custom-call" or not target else target[1]


def flops_of(module: Module, instruction: Instruction) -> float:
    """Two for each multiply-add of a convolution or a product; none with padding."""
    operands = [module.shapes.get(name, "") for name in instruction.operands]
    dimensions = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    if dimensions and len(operands) > 1:
        # cuDNN names the arrays of both gradients as in the forward pass.
        image, kernel, output = operands[0], operands[1], instruction.shape
        if "convBackwardFilter" in instruction.rest:
            kernel, output = instruction.shape, operands[1]
        elif "convBackwardInput" in instruction.rest:
            image, output = instruction.shape, operands[0]
        return 2.0 * _multiply_adds(instruction.rest, dimensions.groups(), image, kernel, output)
    dims = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]"?([\d",]*)', instruction.rest)
    if dims and operands and (instruction.opcode == "dot" or "gemm" in instruction.rest):
        sides = sides_of(operands[0])
        summed = math.prod(sides[int(d)] for d in re.findall(r"\d+", dims[1]))
        return 2.0 * math.prod(sides_of(instruction.shape)) * summed
    return 0.0


def _multiply_adds(
    attributes: str, dimensions: tuple[str, ...], image: str, kernel: str, output: str
) -> int:
    """Of a convolution: over pairs of an output and a place of the kernel that meet the image."""
    image_sides, kernel_sides, output_sides = map(sides_of, (image, kernel, output))
    window = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(field.split("=") for field in window[1].split()) if window else {}
    count = output_sides[dimensions[2].index("b")] * output_sides[dimensions[2].index("f")]
    count *= kernel_sides[dimensions[1].index("i")]
    for axis in range(len(dimensions[0]) - 2):
        numbers = {name: value.split("x")[axis] for name, value in fields.items()}
        count *= _meetings(
            image_sides[dimensions[0].index(str(axis))],
            kernel_sides[dimensions[1].index(str(axis))],
            output_sides[dimensions[2].index(str(axis))],
            int(numbers.get("stride", 1)),
            int(numbers.get("pad", "0_0").split("_")[0]),
            int(numbers.get("lhs_dilate", 1)),
            int(numbers.get("rhs_dilate", 1)),
        )
    return count


@functools.cache
def _meetings(
    image: int, kernel: int, output: int, stride: int, pad: int, apart: int, kernel_apart: int
) -> int:
    """Pairs of an output and a place of the kernel along an axis; image values lie `apart`."""
    places = np.arange(output)[:, None] * stride + np.arange(kernel) * kernel_apart - pad
    return int(((places >= 0) & (places < image * apart) & (places % apart == 0)).sum())


def place(op_name: str, kind: str = "") -> tuple[str, str]:
    """Layer and phase of an operation, from JAX's path of it.

    E.g. ("layer1.0/conv1", "backward") of
    "jit(train_step)/transpose(jvp(ResNet))/layer1.0/conv1/conv_general_dilated".
    """
    if kind in COLLECTIVES:
        return "", "collectives"
    parts = re.sub(r"\[.*?\]", "", op_name).split("/")
    if "teacher" in parts or "jvp(teacher)" in parts:
        return "", "teacher"
    for number, part in enumerate(parts):
        if re.match(r"(transpose\()?jvp\((?!\))[A-Z]\w*\)", part):
            inner = [part for part in parts[number + 1 : -1] if not _NO_MODULE.match(part)]
            return "/".join(inner), "backward" if part.startswith("transpose") else "forward"
    for phase, scope in (("input", "augment"), ("optimizer", "optimizer")):
        if scope in parts or f"jvp({scope})" in parts:
            return "", phase
    if any(part.startswith("transpose(jvp") for part in parts):
        return "", "backward"
    return "", "forward" if any(part.startswith("jvp(") for part in parts) else "other"


def by_phase(operations: list[Operation]) -> dict[str, dict[str, float]]:
    """{phase: {"seconds", "bytes", "flops"}}, the phases that occur."""
    return _sums(operations, lambda operation: operation.phase, PHASES)


def by_layer(operations: list[Operation]) -> dict[str, dict[str, float]]:
    """{module of the top level of the model: {"seconds", "bytes", "flops"}} as scheduled."""
    names = list(dict.fromkeys(op.layer.split("/")[0] for op in operations if op.layer))
    return _sums(operations, lambda operation: operation.layer.split("/")[0], names)


def _sums(
    operations: list[Operation], key: Callable[[Operation], str], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    found = {}
    for name in names:
        chosen = [operation for operation in operations if key(operation) == name]
        if chosen:
            found[name] = {
                "seconds": sum(operation.seconds for operation in chosen),
                "bytes": sum(operation.bytes for operation in chosen),
                "flops": sum(operation.flops for operation in chosen),
            }
    return found


def collectives(operations: list[Operation], module: Module) -> dict[str, dict[str, float]]:
    """{kind: {"count", "bytes"}} of a step; the bytes are those that a device contributes."""
    running = {instruction.name: instruction for instruction, _ in module.main()}
    found: dict[str, dict[str, float]] = {}
    for operation in operations:
        if operation.kind in COLLECTIVES:
            inputs = running[operation.name].operands
            size = sum(shape_bytes(module.shapes.get(name, ""), only_hbm=False) for name in inputs)
            sums = found.setdefault(operation.kind, {"count": 0, "bytes": 0})
            sums["count"] += operation.count
            sums["bytes"] += size * operation.count
    return found
