"""The integers of a LiteRT file: TensorFlow's converter, with ranges that outliers stretch less."""

from collections.abc import Iterator
from typing import Any

import numpy as np

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def in_int8(converter: Any, calibration: np.ndarray, in_float: bool) -> bytes:
    """What a converter to integers makes of a network.

    Its own ranges go from the least to the most of all images. Here they are the means of the
    extremes of each, as of `quantization.quantized`, but for outputs: logits that are cut off are
    equal.

    Args:
      converter: a tf.lite.TFLiteConverter that optimizes.
      calibration: images as the network is given them [N, S, S, 3].
      in_float: whether what follows the last layer stays in float, see `program.ends_in_float`.
    """
    from imagenet_jax.data.host_tensorflow import tf

    converter.representative_dataset = lambda: iter([[calibration[:1]]])  # its ranges do not stay
    debugging = tf.lite.experimental  # what can be told of ranges, and of what stays in float
    debugger = debugging.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset
    )
    debugger.calibrated_model = _calibrated(debugger.calibrated_model, calibration)
    names = _after_weights(debugger.calibrated_model) if in_float else []
    debugger.options = debugging.QuantizationDebugOptions(denylisted_nodes=names)
    return debugger.get_nondebug_quantized_model()


def _calibrated(data: bytes, images: np.ndarray) -> bytes:
    """A file with other ranges of what its operations make."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    made = {number for operation in graph.operators for number in operation.outputs}
    chosen = [
        number
        for number, tensor in enumerate(graph.tensors)
        if tensor.type == schema.TensorType.FLOAT32
        and (number in made or number in graph.inputs)
        and tensor.quantization is not None
    ]
    extremes = np.array([*_extremes(data, images, chosen)])  # [N, tensors, 2]
    for number, low, high in zip(chosen, *extremes.mean(0).T, strict=True):
        if number in graph.outputs:
            low, high = extremes[:, chosen.index(number)].T
            low, high = low.min(), high.max()
        ends = graph.tensors[number].quantization
        ends.min, ends.max = (np.array([end], np.float32) for end in (low, high))
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _extremes(
    data: bytes, images: np.ndarray, tensors: list[int]
) -> Iterator[list[tuple[float, float]]]:
    """The least and the most of some tensors of a file, and zero, for each image."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        arrays = (interpreter.get_tensor(number) for number in tensors)
        yield [(min(array.min(), 0), max(array.max(), 0)) for array in arrays]


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
