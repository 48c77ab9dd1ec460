"""ONNX by jax2onnx: a program with its weights for ONNX Runtime and others, for any batch size."""

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.deploy.program import check_weights_fit, ends_in_float, plain_program
from imagenet_jax.errors import ExportError
from imagenet_jax.training.trained import TrainedModel

OPSET = 21  # ONNX 1.16 of 2024; GELU is of 20
_WEIGHTED = ("Conv", "Gemm", "MatMul")


def write_onnx(trained: TrainedModel, path: Path, inputs: str) -> None:
    """The file of a model, of `OPSET`; its input is "images".

    Args:
      trained: the model.
      path: of the file.
      inputs: see `program_of`.

    Raises:
      ExportError: for a model that jax2onnx cannot convert, or of more than 2 GB.
    """
    import onnx

    check_weights_fit(trained, "an ONNX file")
    run, size = plain_program(trained, inputs), trained.config.data.image_size
    shape = size, size, 3
    names = sorted(jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.dtype(inputs))))
    with _quiet(), jax.numpy_rank_promotion("allow"):  # jax2onnx's own layers do it
        from jax2onnx import to_onnx

        try:
            model = to_onnx(
                lambda images: [run(images)[name] for name in names],
                [SimpleNamespace(shape=("batch", *shape), dtype=jnp.dtype(inputs))],
                opset=OPSET,
                input_names=["images"],
                output_names=names,
            )
        except Exception as error:  # of whatever operation it does not know
            raise ExportError(
                f"{trained.name}: jax2onnx cannot convert it: {_first_line(error)}; "
                "--format=stablehlo and savedmodel hold any model"
            ) from error
    onnx.save(model, path)
    _simplify(path)


def _simplify(path: Path) -> None:
    """Constants are computed and normalisation joins convolutions, in operations of ONNX alone."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    _share_constants(model.graph)
    onnx.save(model, path)


def _share_constants(graph: Any) -> None:
    """Equal constants become one: a head of all maps would have its weights once for each."""
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a part of its own might read them
    first, name_of = {}, {}
    for constant in graph.initializer:
        key = (constant.data_type, tuple(constant.dims), _bytes(constant))
        name_of[constant.name] = first.setdefault(key, constant.name)
    for node in graph.node:
        node.input[:] = [name_of.get(name, name) for name in node.input]
    kept = [constant for constant in graph.initializer if name_of[constant.name] == constant.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _bytes(constant: Any) -> bytes:
    """A hash of what it holds."""
    from onnx import numpy_helper

    return hashlib.sha256(numpy_helper.to_array(constant).tobytes()).digest()


def write_onnx_int8(
    trained: TrainedModel, path: Path, inputs: str, calibration: np.ndarray
) -> None:
    """`write_onnx` with weights int8 for each channel and activations uint8, as pairs of
    QuantizeLinear and DequantizeLinear, which runtimes join with the operation between them.

    What follows the last layer of a detector or of embeddings stays in float, see `ends_in_float`.

    Args:
      trained, path, inputs: see there.
      calibration: images as `inputs` has them [N, S, S, 3], which give the ranges of activations:
        the means of the extremes of each, as of `quantization.quantized`; of outputs the extremes.

    Raises:
      ExportError: see there.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    whole = path.with_suffix(".float.onnx")
    write_onnx(trained, whole, inputs)
    in_float = ends_in_float(trained.task)
    options: dict[str, Any] = {"CalibMovingAverage": True}  # of all images at once: their mean
    if not in_float:
        options["TensorQuantOverrides"] = _ranges_of_outputs(whole, calibration)
    with _quiet(), _its_errors(f"{trained.name} in int8"):
        quantize_static(
            whole,
            path,
            _Images(calibration),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_after_weights(whole) if in_float else [],
            extra_options=options,
        )
    whole.unlink()


@contextlib.contextmanager
def _its_errors(what: str) -> Iterator[None]:
    """What ONNX Runtime raises, whose errors have nothing in common, as ExportError."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"{what}: ONNX Runtime refuses it: {_first_line(error)}") from error


def _ranges_of_outputs(path: Path, images: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Those of all images, as ONNX Runtime is told of them: logits that are cut off are equal."""
    run = read_onnx(path)
    outputs = [run(image[None]) for image in images]
    ends = {}
    for name, array in outputs[0].items():
        if array.dtype == np.float32:
            low, high = (end([one[name] for one in outputs]) for end in (np.min, np.max))
            ends[name] = [{"rmin": np.minimum(low, 0), "rmax": np.maximum(high, 0)}]
    return ends


def _after_weights(path: Path) -> list[str]:
    """The nodes of a file after which there is no layer with weights."""
    import onnx

    graph = onnx.load(path).graph
    maker = {name: node for node in graph.node for name in node.output}
    found, ahead = {}, [output.name for output in graph.output]
    while ahead:
        node = maker.get(ahead.pop())
        if node is not None and node.op_type not in _WEIGHTED and node.name not in found:
            found[node.name] = node
            ahead += node.input
    return list(found)


class _Images:
    """A CalibrationDataReader of onnxruntime: one image after the other, then None."""

    def __init__(self, images: np.ndarray):
        self._left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"images": image[None]}


def read_onnx(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function of images that a file holds, by names of its outputs, on ONNX Runtime's CPU.

    Raises:
      ExportError: if it refuses the file; the function, if it cannot run it.
    """
    import onnxruntime

    with _its_errors(path.name):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, Any]:
        with _its_errors(path.name):
            return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """jax2onnx prints what it looks at, and warns of each shape."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:300]
