"""Which channels of a network go together: read off its program, and not off its family.

A channel is made by a layer, and what normalises, scales, adds up or reads it has an entry for it,
too. `axis_names` gives each axis of each parameter a name, and finds out which names are the same.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.axis_names import Names, Reader
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.layers.platforms import PLAIN, lowering_for

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Member:
    """An axis of a variable that has an entry for each channel of a group.

    Attributes:
      path: of the variable, collection first.
      axis: counted from 0.
      repeat: entries of a channel, which follow each other; more than 1 behind a flattened map.
    """

    path: Path
    axis: int
    repeat: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that can only be removed together.

    Attributes:
      size: how many there are.
      members: the axes that have them.
      layers: paths of the modules that make them, as of model.channels.
    """

    size: int
    members: tuple[Member, ...]
    layers: tuple[str, ...]


def channel_groups(model: nn.Module, image_size: int) -> list[Group]:
    """The groups of a network, in the order in which layers are found in its variables.

    Not among them are channels of images and of the outputs, and those that an operation treats in
    a way that is not known here: grouped convolutions, concatenations, norms over channels.

    Args:
      model: a classifier.
      image_size: height and width of its images in pixels.
    """
    variables = variable_shapes(model, image_size)
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    with lowering_for(PLAIN):
        program = jax.make_jaxpr(lambda v, i: model.apply(v, i, train=False))(variables, image)
    names, leaves = Names(), jax.tree_util.tree_leaves_with_path(variables)
    given = [names.fresh(leaf.shape) for _, leaf in leaves]
    for label in Reader(names).run(program.jaxpr, [*given, (None,) * 4])[0]:
        names.fix(label)
    members: dict[int, list[Member]] = {}
    sizes: dict[int, int] = {}
    for (path, leaf), labels in zip(leaves, given, strict=True):
        for axis, label in enumerate(labels):
            root, repeat = names.find(label)
            if root not in names.fixed:
                where = tuple(key.key for key in path)
                members.setdefault(root, []).append(Member(where, axis, repeat))
                sizes[root] = leaf.shape[axis] // repeat
    ranks = {tuple(key.key for key in path): leaf.ndim for path, leaf in leaves}
    groups = [Group(sizes[root], tuple(of), _layers(of, ranks)) for root, of in members.items()]
    return [group for group in groups if group.layers]


def _layers(members: Sequence[Member], ranks: dict[Path, int]) -> tuple[str, ...]:
    """Of those axes that are the outputs of a kernel."""
    found = (m.path for m in members if m.path[-1] == "kernel" and m.axis == ranks[m.path] - 1)
    return tuple("/".join(path[1:-1]) for path in found)
