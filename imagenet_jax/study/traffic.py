"""Bytes between an operation of a compiled program and the memory of the device."""

from imagenet_jax.study.hlo import Instruction, Module, arrays_of, shape_bytes


def memory_traffic(module: Module, instruction: Instruction) -> int:
    """Bytes that an instruction reads from HBM and writes to it, without padding.

    Operands and results count once each; those that the TPU compiler keeps in scratch memory,
    "S(1)" in their layout, do not. Of an array that a loop goes through, only the slice that is
    read or replaced counts.
    """
    if instruction.opcode in ("copy-start", "slice-start"):
        return _moved(module, instruction)
    return _read(module, instruction) + _written(module, instruction)


def _moved(module: Module, instruction: Instruction) -> int:
    """By a copy to or from scratch memory: (destination, source, ...) or ((source), part, ...)."""
    shapes = arrays_of(instruction.shape)
    target = shapes[0 if instruction.opcode == "copy-start" else 1]
    source = module.shapes.get(instruction.operands[0], "")
    return shape_bytes(target, only_hbm=False) * sum(
        "S(1)" not in side for side in (target, source)
    )


def _read(module: Module, instruction: Instruction) -> int:
    inside = _body(module, instruction)
    total = 0
    for number, name in enumerate(instruction.operands):
        size = shape_bytes(module.shapes.get(name, ""))
        uses = _uses(inside, number) if inside else [(instruction, number)]
        if size and uses and all(use.opcode.startswith("dynamic-") and not at for use, at in uses):
            # A part of it is read, or replaced without a look at the rest.
            parts = [use.shape for use, _ in uses if use.opcode == "dynamic-slice"]
            size = sum(shape_bytes(part, only_hbm=False) for part in parts)
        total += size
    return total


def _written(module: Module, instruction: Instruction) -> int:
    inside = _body(module, instruction) or {instruction.name: instruction}
    root = list(inside.values())[-1]
    names = root.operands if root.opcode == "tuple" else [root.name]
    results = arrays_of(instruction.shape)
    if len(names) != len(results):
        return shape_bytes(instruction.shape)
    total = 0
    for name, shape in zip(names, results, strict=True):
        size, maker = shape_bytes(shape), inside.get(name)
        while maker is not None and maker.opcode == "bitcast":
            maker = inside.get(maker.operands[0])
        if size and maker is not None and maker.opcode == "dynamic-update-slice":
            size = shape_bytes(module.shapes.get(maker.operands[1], ""), only_hbm=False)
        total += size
    return total


def _body(module: Module, instruction: Instruction) -> dict[str, Instruction]:
    """What a fusion does; nothing for what is no fusion."""
    if instruction.opcode != "fusion" or not instruction.called:
        return {}
    return module.computations.get(instruction.called[0], {})


def _uses(inside: dict[str, Instruction], number: int) -> list[tuple[Instruction, int]]:
    """The instructions that use a parameter, and as which operand; through bitcasts."""
    start = f"{number})"
    names = {
        i.name for i in inside.values() if i.opcode == "parameter" and i.rest.startswith(start)
    }
    found = []
    for one in inside.values():
        used = [place for place, name in enumerate(one.operands) if name in names]
        if used and one.opcode == "bitcast":
            names.add(one.name)
        else:
            found += [(one, place) for place in used]
    return found
