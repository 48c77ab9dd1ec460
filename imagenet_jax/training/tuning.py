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

from imagenet_jax.training.checks import check_lora
from imagenet_jax.weights.head import head_paths

Path = tuple[str, ...]
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
      layer_decay: "layerwise": factor of the learning rate from a block to the one before it.
      lora_rank, lora_alpha: "lora": rank, and scale times rank of the changes.
    """

    mode: str = "full"
    heads: tuple[Path, ...] = ()
    frozen_norms: frozenset[Path] = frozenset()
    layer_decay: float = 1.0
    lora_rank: int = 0
    lora_alpha: float = 0.0

    @property
    def trains_backbone(self) -> bool:
        """Whether BatchNorm and dropout of the backbone are in training mode."""
        return self.mode != "head"

    def is_trained(self, path: Path) -> bool:
        """Whether a parameter is."""
        if self.mode in ("full", "layerwise"):
            return path[:-1] not in self.frozen_norms
        return path[:-1] in self.heads or path[-1] in ("lora_a", "lora_b")

    def split(self, params: Any) -> tuple[Any, Any]:
        """The trained parameters and the frozen ones; each with None in place of the other's."""

        def part(trained: bool) -> Any:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: leaf if self.is_trained(_keys(path)) == trained else None, params
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


def make_tuning(config: ml_collections.ConfigDict, model: nn.Module) -> Tuning:
    """What config.finetune says.

    Raises:
      ConfigError: for LoRA of a model that has no attention.
    """
    finetune, size = config.finetune, config.data.image_size
    frozen = find_frozen_norms(model, size) if config.model.frozen_norm else frozenset()
    if finetune.mode == "full":
        return Tuning(frozen_norms=frozen)
    check_lora(config)
    return Tuning(
        mode=finetune.mode,
        heads=head_paths(model, size),
        frozen_norms=frozen,
        layer_decay=finetune.layer_decay,
        lora_rank=finetune.lora_rank,
        lora_alpha=finetune.lora_alpha,
    )


def decay_by_layer(model: nn.Module, image_size: int, decay: float) -> optax.GradientTransformation:
    """Scales updates by decay^(number of blocks between a parameter and the head).

    What comes before the first block counts as one block, what comes after the last as the head.
    """
    depth = layer_depths(model, image_size)
    last = max(depth.values())

    def scale(path: Any, update: jax.Array) -> jax.Array:
        return update * decay ** (last - depth.get(_keys(path)[0], 0))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def layer_depths(model: nn.Module, image_size: int) -> dict[str, int]:
    """{module of the top level: number of its block}, 0 the stem's, in the order of the calls."""
    modules, params = _called(model, image_size)
    called: dict[str, bool] = {}  # whether a module has modules of its own
    for path, _ in modules:
        if path:
            called[path[0]] = called.get(path[0], False) or len(path) > 1
    names = [name for name in called if name in params]
    blocks = [name for name in names if called[name]]
    plain = not blocks  # a stack of layers, each of which is a block
    if plain:
        blocks = [name for name in names if "kernel" in params[name]][1:]
    depths, depth = {}, 0
    for name in names:
        if name in blocks:
            depth += 1
        # What stands between blocks belongs to the next one, behind the last to the head.
        between = depth and name not in blocks and not plain
        depths[name] = depth + 1 if between else depth
    return depths


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


def _keys(path: Any) -> Path:
    return tuple(getattr(key, "key", str(key)) for key in path)
