"""The encoder of a masked autoencoder as a classifier has it."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from absl import logging

from imagenet_jax.models.heads.masked_autoencoder import (
    MASK_TOKEN,
    MaskedAutoencoder,
    is_of_decoder,
)
from imagenet_jax.models.layers.sincos import sincos2d
from imagenet_jax.models.vit import ViT


def without_decoder(
    variables: Mapping[str, Any], model: nn.Module, image_size: int
) -> Mapping[str, Any]:
    """Variables of a masked autoencoder for a ViT, or a network around one; others, and those for
    another masked autoencoder, as they are.

    The encoder of pre-training normalises each token ("norm"). A ViT with pool = "avg" normalises
    the mean of all instead: its fc_norm is new, as in the reference's fine-tuning. A class token
    that one of both does not have is left out, or new, and its learnt position with it.

    Args:
      variables: params and batch_stats, NumPy arrays.
      model: which is to start from them.
    """
    params, vit = variables["params"], getattr(model, "backbone", model)
    wants_decoder = isinstance(model, MaskedAutoencoder)
    if MASK_TOKEN not in params or wants_decoder or not isinstance(vit, ViT):
        return variables
    params = {name: value for name, value in params.items() if not is_of_decoder(name)}
    new, left_out = [], ["the decoder"]
    if vit.pool == "avg":
        params["fc_norm"] = {
            name: np.full_like(array, name == "scale") for name, array in params["norm"].items()
        }
        del params["norm"]
        new.append("fc_norm")
        left_out.append("norm")
    had, has = "cls_token" in params, vit.tokens > 0
    if had and not has:
        del params["cls_token"]
        left_out.append("cls_token")
    if has and not had:
        params["cls_token"] = np.zeros((1, 1, vit.width), np.float32)
        new.append("cls_token")
    if "pos_embed" in params and had != has:
        places = np.asarray(params["pos_embed"])
        before = np.zeros_like(places[:, :1])
        params["pos_embed"] = np.concatenate([before, places], 1) if has else places[:, 1:]
    if "pos_embed" not in params and vit.pos_embed == "learn":
        side = image_size // vit.patch
        places = sincos2d(side, side, vit.width)
        params["pos_embed"] = np.pad(places, ((0, 0), (vit.tokens, 0), (0, 0)))
        new.append("pos_embed, from the fixed one")
    logging.info(
        "the weights of a masked autoencoder become those of a classifier, without %s%s",
        ", ".join(left_out),
        f"; new beside its head: {', '.join(new)}" if new else "",
    )
    return {**variables, "params": params}
