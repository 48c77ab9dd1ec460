"""TensorFlow's SavedModel around StableHLO: for TensorFlow Serving and whatever loads such folders.

The program is one operation, XlaCallModule, for any batch size; weights are inside.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxlib.mlir.dialects import stablehlo as dialect

from imagenet_jax.deploy.program import check_weights_fit, program_of
from imagenet_jax.deploy.savedmodel_photos import photo_function
from imagenet_jax.errors import ExportError
from imagenet_jax.training.trained import TrainedModel

# Of StableHLO: what the oldest TensorFlow that this program takes, 2.21, can read.
_STABLEHLO = "1.13.7"
_CALL_MODULE = 10  # version of XlaCallModule


def write_savedmodel(trained: TrainedModel, path: Path, inputs: str) -> int | None:
    """The folder of a model, with the signature "serving_default": images -> outputs by name; and
    "photos", see `savedmodel_photos.photo_function`, unless images are to be normalised already.

    Args:
      trained: the model.
      path: of the folder.
      inputs: see `program_of`.

    Returns:
      How many images the program takes at once: None, any number; 1, where TensorFlow cannot make
      it for any number (sorting within a condition, of detectors): then one after the other.

    Raises:
      ExportError: for a model of more than 2 GB.
    """
    from imagenet_jax.data.host_tensorflow import tf

    run = partial(program_of(trained, inputs), jax.tree.map(jnp.asarray, trained.variables))
    how = run, trained, inputs, ("cpu", "cuda")
    module, at_once = tf.Module(), None
    module.images = tf_function(*how)
    try:
        module.images(
            tf.zeros([2, *module.images.input_signature[0].shape[1:]], tf.as_dtype(inputs))
        )
    except tf.errors.InvalidArgumentError:
        at_once = 1
        module.images = _one_by_one(tf_function(*how, count=1))
    signatures = {"serving_default": module.images}
    if inputs == "uint8":
        module.photos = photo_function(module.images, trained.config)
        signatures["photos"] = module.photos
    tf.saved_model.save(module, str(path), signatures=signatures)
    return at_once


def _one_by_one(of_one: Any) -> Any:
    """A tf.function of any number of images, by one of a single image."""
    from imagenet_jax.data.host_tensorflow import tf

    (single,) = of_one.input_signature
    outputs = of_one.get_concrete_function().structured_outputs
    types = {name: tf.TensorSpec(array.shape[1:], array.dtype) for name, array in outputs.items()}
    any_number = tf.TensorSpec([None, *single.shape[1:]], single.dtype, "images")

    @tf.function(autograph=False, input_signature=[any_number])
    def call(images: Any) -> dict[str, Any]:
        def one(image: Any) -> dict[str, Any]:
            return {name: array[0] for name, array in of_one(image[None]).items()}

        return tf.map_fn(one, images, fn_output_signature=types)

    return call


def tf_function(
    run: Callable[[jax.Array], dict[str, jax.Array]],
    trained: TrainedModel,
    inputs: str,
    platforms: Sequence[str] = ("cpu",),
    count: int | None = None,
) -> Any:
    """A tf.function of images [count, S, S, 3], None being any count.

    Args:
      run: what it does, see `program_of`, with the weights inside.
      trained: whose program it is.
      inputs: see `program_of`.
      platforms: that it is for, of `folder.PLATFORMS`.
      count: of images.
    """
    from tensorflow.compiler.tf2xla.python import xla  # jax2tf, too, has the operation from there

    from imagenet_jax.data.host_tensorflow import tf

    check_weights_fit(trained, "a SavedModel")
    size = trained.config.data.image_size
    number = export.symbolic_shape("b")[0] if count is None else count
    images = jax.ShapeDtypeStruct((number, size, size, 3), jnp.dtype(inputs))
    exported = export.export(jax.jit(run), platforms=list(platforms))(images)
    names = sorted(jax.eval_shape(run, jax.ShapeDtypeStruct((1, size, size, 3), images.dtype)))
    shapes = [[None if count is None else count, *aval.shape[1:]] for aval in exported.out_avals]
    dtypes = [tf.as_dtype(aval.dtype) for aval in exported.out_avals]
    how = {"version": _CALL_MODULE, "module": older(exported), "Tout": dtypes, "Sout": shapes}
    how["platforms"] = [name.upper() for name in platforms]

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([count, size, size, 3], tf.as_dtype(inputs), "images")],
    )
    def call(images: Any) -> dict[str, Any]:
        found = xla.call_module([images], **how)
        outputs = {}
        for name, array, shape in zip(names, found, shapes, strict=True):
            array.set_shape(shape)
            outputs[name] = array
        return outputs

    return call


def older(exported: export.Exported) -> bytes:
    """The program in the form of an older StableHLO, for readers that are behind JAX."""
    text = str(exported.mlir_module())
    try:
        return dialect.serialize_portable_artifact_str(text, _STABLEHLO)
    except ValueError as error:
        reason = str(error).split("\n")[0]
        raise ExportError(
            f"it uses what StableHLO {_STABLEHLO} of TensorFlow does not have: {reason}"
        ) from error


def read_savedmodel(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function of images that "serving_default" of a folder is, by names of its outputs."""
    from imagenet_jax.data.host_tensorflow import tf

    loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> dict[str, Any]:
        found = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: array.numpy() for name, array in found.items()}

    return run
