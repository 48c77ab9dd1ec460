"""LiteRT (TensorFlow Lite): a program with its weights for phones and small computers.

It takes one image at a time. TensorFlow's converter makes the file from StableHLO.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.deploy.litert_int8 import in_int8
from imagenet_jax.deploy.program import ends_in_float, plain_program
from imagenet_jax.deploy.savedmodel import tf_function
from imagenet_jax.errors import ExportError
from imagenet_jax.training.trained import TrainedModel


def write_litert(
    trained: TrainedModel,
    path: Path,
    inputs: str,
    calibration: np.ndarray | None = None,
    *,
    numbers: str = "float32",
) -> None:
    """The file of a model; its input is "images" [1, S, S, 3], of the signature "serving_default".

    Args:
      trained: the model.
      path: of the file.
      inputs: see `program_of`.
      calibration: of int8: images as `inputs` has them [N, S, S, 3], which give the ranges of
        activations: the means of the extremes of each, as of `quantization.quantized`; of outputs
        the extremes.
      numbers: float32; float16: weights, half the size; int8: weights for each channel, and
        activations, where the converter has integers for an operation. What follows the
        last layer of a detector or of embeddings stays in float.

    Raises:
      ExportError: for a model with operations that LiteRT does not have, or of more than 2 GB.
    """
    from imagenet_jax.data.host_tensorflow import tf

    with _quiet():
        function = tf_function(plain_program(trained, inputs), trained, inputs, count=1)
        module = tf.Module()
        module.images = function
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], module
        )
        if numbers != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if numbers == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            if numbers == "int8":
                data = in_int8(converter, calibration, ends_in_float(trained.task))
            else:
                data = converter.convert()
        except Exception as error:  # of whatever operation it does not know
            lines = [line for line in str(error).split("\n") if "error:" in line]
            reason = (lines or str(error).split("\n"))[0].rpartition("error: ")[2][:300]
            raise ExportError(
                f"{trained.name}: LiteRT cannot hold it: {reason}; "
                "--format=stablehlo and savedmodel hold any model"
            ) from error
    path.write_bytes(data)


def read_litert(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function of images that a file holds, one after the other, by names of its outputs."""
    from ai_edge_litert.interpreter import Interpreter

    with _quiet():
        interpreter = Interpreter(str(path), num_threads=os.cpu_count())
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")

    def run(images: np.ndarray) -> dict[str, Any]:
        found = [runner(images=image[None]) for image in images]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter and the interpreter write what they do straight to the process's stderr."""
    sys.stderr.flush()
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
