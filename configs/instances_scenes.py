"""Finds digits in scenes and their pixels, with a small Mask R-CNN: a first run of `instances`.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=instances_scenes
Hardware:  2 CPU cores. Not run to its end by this project.
"""

from imagenet_jax.config import load_config


def get_config():
    config = load_config("detect_scenes:faster_rcnn")
    config.task = "instances"
    config.model.head = "mask_rcnn"
    return config
