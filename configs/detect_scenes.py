"""Finds digits in scenes, with a small ResNet: a first run of detection.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=detect_scenes
           or detect_scenes:faster_rcnn, detect_scenes:yolox, which take longer
Hardware:  2 CPU cores of an AMD EPYC, 4 minutes in all, writing the data set included, jax 0.10.2.
Accuracy:  AP 53.5 %, AP50 72.9 % with FCOS (3 epochs); 72.3 % and 90.5 % with --config.duration
           of 12 epochs (19 minutes beside other work); 61.3 % and 85.5 % with Faster R-CNN (6
           epochs, 17 minutes beside other work); one run each. All of them would get further in
           more time: of a run of 10 epochs, FCOS had 69.6 % on the test images and 71.2 % on
           training images. YOLOX nano learns more slowly: 31.2 % and 54.3 % after 8 epochs of a run
           in batches of 16, without changes of colour and size, that was stopped there.
"""

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError

HEADS = ("fcos", "faster_rcnn", "yolox")


def get_config(head="fcos"):
    if head not in HEADS:
        raise ConfigError(f"configs/detect_scenes.py:{head}: expected one of {', '.join(HEADS)}")
    config = base_config()
    config.task = "detection"
    config.batch_size = 8
    config.model.name = "resnet18"
    config.model.width = 32
    config.model.head = head
    config.model.dtype = "float32"
    config.model.bn_group_size = 4
    config.model.zero_init_residual = False
    if head == "fcos":
        config.duration = "3 epochs"
        config.model.fpn_strides = (4, 8, 16)
        config.model.fpn_width = 32
        config.optim.learning_rate = 2e-3
    elif head == "yolox":
        config.duration = "12 epochs"
        config.model.name = "cspdarknet_nano"
        config.model.fpn_strides = (4, 8, 16)
        config.model.width = 0
        config.model.zero_init_residual = True
        config.optim.learning_rate = 2e-3
    else:
        config.duration = "6 epochs"
        config.model.fpn_strides = (4, 8, 16, 32)
        config.model.fpn_width = 64
        config.model.anchor_scale = 4.0
        config.model.roi_samples = 64
        config.model.proposals = 100
        config.model.roi_width = 256
        config.optim.learning_rate = 1e-3
    config.data.name = "scenes"
    config.data.eval_split = "test"
    config.data.image_size = 128
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (0.8, 1.25)
    config.data.eval_crop = "none"
    config.augment.flip = False
    config.augment.brightness = 0.3
    config.augment.contrast = 0.3
    config.augment.hue = 0.5
    config.optim.name = "adamw"
    config.optim.weight_decay = 1e-4
    config.schedule.warmup = "200 steps" if head == "faster_rcnn" else "500 steps"
    config.eval.batch_size = 50
    config.eval.candidates = 200
    config.eval.every = "3 epochs"
    config.log.every = "100 steps"
    return config
