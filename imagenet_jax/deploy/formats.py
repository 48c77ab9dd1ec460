"""How each format of an export is written, and read again to be checked."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export

from imagenet_jax.deploy import litert, onnx, savedmodel, stablehlo
from imagenet_jax.deploy.comparison import Outputs
from imagenet_jax.deploy.program import in_floating_point
from imagenet_jax.deploy.savedmodel_photos import compare_photos
from imagenet_jax.errors import ExportError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.terminal import say
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.files import read_weights, write_safetensors
from imagenet_jax.weights.torch_layout import import_arrays

Run = Callable[[np.ndarray], Outputs]


class Request(NamedTuple):
    """What an export is to be.

    Attributes:
      inputs: see `program.program_of`.
      platforms: that a StableHLO file is for.
      calibration: images as `inputs` has them [N, S, S, 3], on which ranges of integers are found.
      photos: some files, on which a program that begins with files is compared.
    """

    inputs: str
    platforms: Sequence[str]
    calibration: np.ndarray
    photos: Sequence[bytes]


class Format(NamedTuple):
    """How a model is written, and how the file is run; None: `write` has read it again.

    Attributes:
      write: model, path, request -> what export.json says beside size and outputs.
      read: path -> a function of images.
      plain: whether the file computes in float32 whatever the model computes in.
      dtype: of its weights, if it is another one.
      whole: whether outputs may differ by rounding alone; of integers they differ more.
    """

    write: Callable[[TrainedModel, Path, Request], dict[str, Any]]
    read: Callable[[Path], Run] | None = None
    plain: bool = False
    dtype: str = ""
    whole: bool = True


def _stablehlo(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
    here = jax_export.default_export_platform()
    if here not in request.platforms:
        raise ExportError(
            f"--platforms={','.join(request.platforms)}: this machine has {here}, so that nobody "
            f"could say whether the file is right; add {here}"
        )
    path.write_bytes(stablehlo.to_stablehlo(trained, request.inputs, request.platforms))
    return {"platforms": list(request.platforms)}


def _safetensors(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
    """The weights in torch's layout, with the names of the classes; compared by their bits."""
    del request
    names = {"class_names": json.dumps(list(getattr(trained.task, "class_names", ())))}
    write_safetensors(path, trained.variables, {"model": json.dumps(trained.name), **names})
    shapes = variable_shapes(trained.model, trained.config.data.image_size)
    again = import_arrays(shapes, read_weights(path).arrays)
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), b), trained.variables, again)
    if not all(jax.tree.leaves(same)):
        raise ExportError(f"the weights of {trained.name} are others when they are read again")
    return {"largest_difference": 0.0}


def _savedmodel(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
    facts = {"images_at_once": savedmodel.write_savedmodel(trained, path, request.inputs)}
    if request.inputs != "uint8":
        return facts
    return facts | {"from_files": compare_photos(trained, path, request.photos)}


def _onnx(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
    onnx.write_onnx(trained, path, request.inputs)
    return {"opset": onnx.OPSET}


def _onnx_int8(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
    onnx.write_onnx_int8(_to_convert(trained, path), path, request.inputs, request.calibration)
    return {"opset": onnx.OPSET, "calibrated_on": len(request.calibration)}


def _to_convert(trained: TrainedModel, path: Path) -> TrainedModel:
    """What a converter makes integers of: it rounds weights as config.model.quantize does."""
    if skipped := tuple(trained.config.model.quantize_skip):
        say(
            f"warning: {path.name} has every layer in int8, those of config.model.quantize_skip = "
            f"{skipped!r} too"
        )
    return in_floating_point(trained) if trained.config.model.quantize else trained


def _litert(numbers: str) -> Callable[[TrainedModel, Path, Request], dict[str, Any]]:
    def write(trained: TrainedModel, path: Path, request: Request) -> dict[str, Any]:
        how = request.inputs, request.calibration
        given = _to_convert(trained, path) if numbers == "int8" else trained
        litert.write_litert(given, path, *how, numbers=numbers)
        return {"calibrated_on": len(request.calibration)} if numbers == "int8" else {}

    return write


def _read_stablehlo(path: Path) -> Run:
    return stablehlo.read_stablehlo(path.read_bytes())


TABLE: Mapping[str, Format] = {
    "stablehlo": Format(_stablehlo, _read_stablehlo),
    "safetensors": Format(_safetensors),
    "savedmodel": Format(_savedmodel, savedmodel.read_savedmodel),
    "onnx": Format(_onnx, onnx.read_onnx, plain=True),
    "onnx_int8": Format(_onnx_int8, onnx.read_onnx, plain=True, whole=False),
    "litert": Format(_litert("float32"), litert.read_litert, plain=True),
    "litert_float16": Format(_litert("float16"), litert.read_litert, plain=True, dtype="float16"),
    "litert_int8": Format(_litert("int8"), litert.read_litert, plain=True, whole=False),
}
