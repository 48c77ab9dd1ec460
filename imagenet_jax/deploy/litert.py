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

from imagenet_jax.deploy.program import plain_program
from imagenet_jax.deploy.savedmodel import tf_function
from imagenet_jax.errors import ExportError
from imagenet_jax.training.trained import TrainedModel

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


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
        activations.
      numbers: float32; float16: weights, half the size; int8: weights for each channel, and
        activations, where the converter has integers for an operation. What a detector does after
        its last layer stays in float: 255 steps are few for pixels.

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
        if numbers == "int8":
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        try:
            if numbers == "int8" and trained.task.part_that("has_boxes"):
                data = _quantised_to_the_last_layer(converter)
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


def _quantised_to_the_last_layer(converter: Any) -> bytes:
    """What a converter to integers makes of a network, and floats after its last weights."""
    from imagenet_jax.data.host_tensorflow import tf

    debugging = tf.lite.experimental
    debugger = debugging.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset
    )
    names = _after_weights(debugger.calibrated_model)
    debugger.options = debugging.QuantizationDebugOptions(denylisted_nodes=names)
    return debugger.get_nondebug_quantized_model()


def _after_weights(data: bytes) -> list[str]:
    """The operations of a file, by the names of what they make, after which there is no layer with
    weights."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph, kinds = model.subgraphs[0], [code.builtinCode for code in model.operatorCodes]
    weighted = {getattr(schema.BuiltinOperator, name) for name in _WEIGHTED}
    maker = {number: operation for operation in graph.operators for number in operation.outputs}
    found, ahead = {}, list(graph.outputs)
    while ahead:
        operation = maker.get(ahead.pop())
        if operation is None or kinds[operation.opcodeIndex] in weighted:
            continue
        name = graph.tensors[operation.outputs[0]].name.decode()
        if name not in found:
            found[name] = operation
            ahead += operation.inputs.tolist()
    return list(found)


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
