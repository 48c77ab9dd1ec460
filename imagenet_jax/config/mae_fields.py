"""The fields of masked autoencoders: config.mae."""

from imagenet_jax.config.field import Field, number

MAE: dict[str, Field] = {
    "mae.mask_ratio": Field(
        0.75,
        "share of the patches of an image that are hidden; int(patches * (1 - mask_ratio)) are "
        "seen, of which there has to be one",
        "above 0 and below 1",
        lambda v: 0 < v < 1,
    ),
    "mae.norm_pixels": Field(
        True,
        "what is to be told of a patch are its pixels less their mean, over their standard "
        "deviation; False: the pixels themselves",
    ),
    "mae.decoder_depth": number(8, "blocks of the decoder", 1, 64),
    "mae.decoder_width": Field(
        512,
        "channels of the decoder's tokens",
        "a multiple of 4, by which its sines and cosines of places divide",
        lambda v: v > 0 and v % 4 == 0,
    ),
    "mae.decoder_heads": number(16, "heads of the decoder's attention; they divide its width", 1),
}


def seen_patches(patches: int, mask_ratio: float) -> int:
    """How many of so many patches of an image are seen."""
    return int(patches * (1 - mask_ratio))
