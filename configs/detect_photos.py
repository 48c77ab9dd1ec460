"""A detector for your own photos, from the weights of a classifier, on a CPU or one GPU.

Command:   python launch.py --config=detect_photos --config.data.name=voc:PHOTOS
           or coco:PHOTOS, yolo:PHOTOS; after a colon other weights than efficientnet_lite0's
Hardware:  2 CPU cores of an AMD EPYC (Zen 4), 45 minutes for 205 photos, beside other work.
Accuracy:  of these, photos of blood cells with three classes (BCCD), on the 87 of its validation
           list AP50 88.0 %, AP 58.5 %, one run; AP50 82.0 % after 10 of the 40 epochs.
"""

from imagenet_jax.config import base_config
from imagenet_jax.weights.pretrained import find_pretrained


def get_config(weights="efficientnet_lite0"):
    config = base_config()
    pretrained = find_pretrained(weights)
    pretrained.apply_preprocessing(config)
    config.finetune.weights = pretrained.name
    config.model.name = pretrained.model
    config.task = "detection"
    config.batch_size = 8
    config.duration = "40 epochs"
    config.model.head = "fcos"
    config.model.fpn_strides = (8, 16, 32)
    config.model.fpn_width = 64
    config.model.dtype = "float32"
    config.model.frozen_norm = True
    config.data.name = "voc:PHOTOS"
    config.data.image_size = 320
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (0.8, 1.25)
    config.data.eval_crop = "letterbox"
    config.augment.flip = True
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optim.name = "adamw"
    config.optim.learning_rate = 5e-4
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 10.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epochs"
    config.eval.batch_size = 16
    config.eval.every = "10 epochs"
    config.eval.report = "best"
    config.log.every = "10 steps"
    return config
