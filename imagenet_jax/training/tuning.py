"""Which parameters are trained, and how much: whole networks, heads, decayed layers, LoRA."""

import dataclasses
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax.linen.module import InterceptorContext

from imagenet_jax.terminal import say
from imagenet_jax.training.checks import check_lora
from imagenet_jax.training.rules import Layers, Path, path_of
from imagenet_jax.weights.head import head_paths

_LORA_LAYERS = re.compile(r"qkv|proj")  # the attention's, as in the paper


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How config.finetune changes training.

    Attributes:
      mode: "full": everything; "head": the last layer on a frozen backbone, whose BatchNorm and
        dropout are in evaluation mode; "layerwise": everything, with a smaller rate the farther
        a block is from the head; "lora": low-rank changes of the attention's matrices (Hu et al.
        2021, https://arxiv.org/abs/2106.09685), and the head.
      heads: paths of the modules whose shape depends on the number of classes.
      frozen_norms: paths of the BatchNorms whose scale and bias are not trained.
      frozen: paths of parameters that are not trained, by config.optim.rules.
      layer_decay: "layerwise": factor of the learning rate from a block to the one before it.
      layer_groups: "layerwise": of blocks with one rate; 0: as many as blocks.
      lora_rank, lora_alpha: "lora": rank, and scale times rank of the changes.
    """

    mode: str = "full"
    heads: tuple[Path, ...] = ()
    frozen_norms: frozenset[Path] = frozenset()
    frozen: frozenset[Path] = frozenset()
    layer_decay: float = 1.0
    layer_groups: int = 12
    lora_rank: int = 0
    lora_alpha: float = 0.0

    @property
    def trains_backbone(self) -> bool:
        """Whether BatchNorm and dropout of the backbone are in training mode."""
        return self.mode != "head"

    def is_trained(self, path: Path) -> bool:
        """Whether a parameter is."""
        if path in self.frozen:
            return False
        if self.mode in ("full", "layerwise"):
            return path[:-1] not in self.frozen_norms
        return path[:-1] in self.heads or path[-1] in ("lora_a", "lora_b")

    def split(self, params: Any) -> tuple[Any, Any]:
        """The trained parameters and the frozen ones; each with None in place of the other's."""

        def part(trained: bool) -> Any:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: leaf if self.is_trained(path_of(path)) == trained else None,
                params,
            )

        return part(True), part(False)

    def join(self, trained: Any, frozen: Any) -> Any:
        """The opposite of `split`."""
        return jax.tree.map(
            lambda one, other: other if one is None else one,
            trained,
            frozen,
            is_leaf=lambda leaf: leaf is None,
        )

    def add_lora(self, params: Any, key: jax.Array) -> Any:
        """With lora_a [in, rank] (normal) and lora_b [rank, out] (zero) beside each kernel."""
        if self.mode != "lora":
            return params

        def add(tree: Any, path: Path) -> Any:
            if not isinstance(tree, Mapping):
                return tree
            tree = {name: add(value, (*path, name)) for name, value in tree.items()}
            is_matrix = getattr(tree.get("kernel"), "ndim", 0) == 2
            if path and is_matrix and _LORA_LAYERS.fullmatch(path[-1]):
                rows, columns = tree["kernel"].shape
                # A key of the layer's own name: it does not depend on the other layers.
                own = jax.random.fold_in(key, zlib.crc32("/".join(path).encode()))
                tree["lora_a"] = jax.random.normal(own, (rows, self.lora_rank)) / rows**0.5
                tree["lora_b"] = jnp.zeros((self.lora_rank, columns))
            return tree

        return add(params, ())

    def merge_lora(self, params: Any) -> Any:
        """The parameters that the model knows: kernels with their low-rank changes."""
        if self.mode != "lora":
            return params
        scale = self.lora_alpha / self.lora_rank

        def merge(tree: Any) -> Any:
            if not isinstance(tree, Mapping):
                return tree
            tree = {name: merge(value) for name, value in tree.items()}
            if "lora_a" in tree:
                change = tree.pop("lora_a") @ tree.pop("lora_b")
                tree["kernel"] = tree["kernel"] + scale * change
            return tree

        return merge(params)


WHOLE = Tuning()


def make_tuning(
    config: ml_collections.ConfigDict, model: nn.Module, by_rule: frozenset[Path] = frozenset()
) -> Tuning:
    """What config.finetune says.

    Args:
      config: see `schema.SCHEMA`.
      model: of the run.
      by_rule: paths of the parameters that config.optim.rules freezes.

    Raises:
      ConfigError: for LoRA of a model that has no attention.
    """
    finetune, size = config.finetune, config.data.image_size
    frozen = find_frozen_norms(model, size) if config.model.frozen_norm else frozenset()
    if finetune.mode == "full":
        return Tuning(frozen_norms=frozen, frozen=by_rule)
    check_lora(config)
    return Tuning(
        mode=finetune.mode,
        heads=head_paths(model, size),
        frozen_norms=frozen,
        frozen=by_rule,
        layer_decay=finetune.layer_decay,
        layer_groups=finetune.layer_groups,
        lora_rank=finetune.lora_rank,
        lora_alpha=finetune.lora_alpha,
    )


def decay_by_layer(
    model: nn.Module, image_size: int, decay: float, groups: int = 12
) -> optax.GradientTransformation:
    """Scales updates by decay^(depth of the head - depth of a parameter), see `layer_depths`."""
    depth = layer_depths(model, image_size, groups)
    last = max(depth.values())
    say(
        f"layerwise: {last + 1} groups of layers, the first of which trains at "
        f"{decay**last:.2g} of the head's rate"
    )

    def scale(path: Any, update: jax.Array) -> jax.Array:
        return update * decay ** (last - depth.get(path_of(path)[0], 0))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def layer_depths(model: nn.Module, image_size: int, groups: int = 12) -> dict[str, int]:
    """{module of the top level: its depth}, in the order of the calls.

    0 is what comes before the first block. Each block of a transformer has a depth of its own, as
    in BEiT and SimMIM; of other networks as many that follow each other share one that there are
    `groups` at most (0: any number), 12 as in ConvNeXt's: 0.75^50 of a rate trains nothing. What
    comes after the last block, and auxiliary heads, is deepest.
    """
    modules, params = _called(model, image_size)
    names = [name for name in dict.fromkeys(path[0] for path, _ in modules if path)]
    names = [name for name in names if name in params]
    heads = {path[0] for path in head_paths(model, image_size)}
    body = [name for name in names if name not in heads]
    blocks = [name for name in body if _kernels(params[name]) > 1]
    plain = not blocks  # a stack of layers, each of which is a block
    if plain:
        blocks = [name for name in body if "kernel" in params[name]][1:]
    attends = any("qkv" in path for path, _ in modules)
    groups = len(blocks) if attends else min(len(blocks), groups or len(blocks))
    depths, number = {}, 0
    for name in body:
        number += name in blocks
        # What stands between blocks belongs to the next one, behind the last to the head.
        ahead = bool(number) and name not in blocks and not plain
        depths[name] = -(-groups * (number + ahead) // max(len(blocks), 1))
    return {name: depths.get(name, groups + 1) for name in names}


def _kernels(params: Any) -> int:
    paths = jax.tree_util.tree_leaves_with_path(params)
    return sum(path[-1].key == "kernel" for path, _ in paths)


def find_layers(model: nn.Module, image_size: int) -> Layers:
    """The heads of a model, and its first layer."""
    modules, params = _called(model, image_size)

    def has_kernel(path: Path) -> bool:
        tree = params
        for name in path:
            tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
        return "kernel" in tree

    stem = next((path for path, _ in modules if has_kernel(path)), None)
    return Layers(head_paths(model, image_size), stem)


def find_frozen_norms(model: nn.Module, image_size: int) -> frozenset[Path]:
    """Paths of the BatchNorms that are frozen, see `norm.BatchNorm`."""
    modules, _ = _called(model, image_size)
    return frozenset(path for path, module in modules if getattr(module, "frozen", False))


def _called(model: nn.Module, image_size: int) -> tuple[list[tuple[Path, nn.Module]], Any]:
    """Path and module of each call in order, and the shapes of the parameters."""
    modules = []

    def record(
        call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext
    ) -> Any:
        modules.append((context.module.path, context.module))
        return call(*args, **kwargs)

    image = jnp.zeros((1, image_size, image_size, 3))
    with nn.intercept_methods(record):
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    return modules, shapes["params"]
