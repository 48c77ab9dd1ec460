"""ViT-S/16, the plain recipe of Beyer et al. 2022, for 90 epochs (configs/vit_s16.py) or 300.

Command:   python launch.py --config=big_vision_vit_s16:300 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  as configs/vit_s16.py; theirs is a TPU v3-8, 6 to 7 hours for 90 epochs.
Deviation: those that the docstring of configs/vit_s16.py lists.
"""

from imagenet_jax.config.files import load_config
from imagenet_jax.config.recipe import Published

SOURCE = "arXiv 2205.01580; google-research/big_vision 0127fb6b configs/vit_s16_i1k.py"
RECIPES = {
    "90": Published(76.5, SOURCE, hardware="TPU v3-8, 6 to 7 h"),
    "300": Published(80.0, SOURCE, spread="79.75 +- 0.07 in three runs of EIFY/mup-vit"),
}


def get_config(variant="90"):
    config = load_config("vit_s16")
    config.duration = f"{variant} epochs"
    return config
