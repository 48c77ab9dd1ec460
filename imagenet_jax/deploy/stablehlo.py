"""StableHLO by jax.export: a program with its weights, for several platforms and any batch size.

JAX promises to read such a file for six months and more after it was written.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from imagenet_jax.deploy.program import check_weights_fit, program_of
from imagenet_jax.errors import ExportError
from imagenet_jax.training.trained import TrainedModel


def to_stablehlo(trained: TrainedModel, inputs: str, platforms: Sequence[str]) -> bytes:
    """The file of a model.

    Args:
      trained: the model.
      inputs: see `program_of`.
      platforms: what it can run on, of `folder.PLATFORMS`; which of them are here does not matter.

    Raises:
      ExportError: for a model that needs to know the number of images, or of more than 2 GB.
    """
    check_weights_fit(trained, "a StableHLO file")
    run, size = program_of(trained, inputs), trained.config.data.image_size
    variables = jax.tree.map(jnp.asarray, trained.variables)
    (count,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.dtype(inputs))
    program = jax.jit(lambda images: run(variables, images))
    try:
        exported = export.export(program, platforms=list(platforms))(images)
    except jax.errors.InconclusiveDimensionOperation as error:
        reason = str(error).split("\n")[0]
        raise ExportError(f"{trained.name}: it is not possible for any batch: {reason}") from error
    return exported.serialize()


def read_stablehlo(data: bytes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function of images that a file holds, by names of its outputs."""
    call = jax.jit(export.deserialize(data).call)

    def run(images: np.ndarray) -> dict[str, Any]:
        return jax.device_get(call(images))

    return run
