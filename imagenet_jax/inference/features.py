"""What the last layer of a trained model sees of images, or would see."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from flax.linen.module import InterceptorContext

from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.head import head_paths


def head_inputs(trained: TrainedModel) -> Callable[[Any, jax.Array], jax.Array]:
    """A compiled function of variables and images uint8 [B, S, S, 3]: the features [B, D].

    Of DeiT's distilled models they are the mean of both heads' inputs, as in timm; of a task that
    gives features these.
    """
    if trained.task.gives_features:
        return jax.jit(partial(_predicted, trained))
    model = trained.model
    heads = head_paths(model, trained.config.data.image_size)
    seen: list[jax.Array] = []

    def record(call: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        if context.module.path in heads and not isinstance(context.module, BatchNorm):
            seen.append(args[0])
        return call(*args, **kwargs)

    @jax.jit
    def before_head(variables: Any, images: jax.Array) -> jax.Array:
        seen.clear()
        with nn.intercept_methods(record):
            inputs = trained.task.image_inputs(images)
            features = model.apply(variables, inputs, train=False)
        if not heads:
            return features
        return (sum(seen[1:], seen[0]) / len(seen)).reshape(len(images), -1)

    return before_head


def _predicted(trained: TrainedModel, variables: Any, images: jax.Array) -> jax.Array:
    apply = partial(trained.model.apply, variables, train=False)
    return trained.task.predict(apply, trained.task.image_inputs(images))
