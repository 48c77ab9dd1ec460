"""Detectors' recipes on COCO, from ImageNet's weights: torchvision's, YOLOX's and DETR's.

Command:   python launch.py --config=detect_coco:retinanet_resnet50 \\
               --config.data.name=coco:COCO2017 --config.finetune.weights=resnet50
           or another of VARIANTS
Source:    pytorch/vision references/detection and its pages of weights, Megvii-BaseDetection/YOLOX
           and facebookresearch/detr README; AP on COCO's validation images: RetinaNet 36.4, FCOS
           39.2, Faster R-CNN 37.0, on MobileNetV3 32.8 (at 320 pixels 22.8), Mask R-CNN 37.9 and
           34.6 of masks, SSD 25.1, SSDLite 21.3, YOLOX nano 25.8, tiny 32.8, s 40.5, m 46.9, DETR
           42.0. The second versions, whose commands are in pytorch/vision pull requests 5756, 5763
           and 5773: RetinaNet 41.5, Faster R-CNN 46.7, Mask R-CNN 47.4 and 41.8; the two R-CNNs
           from random weights.
Hardware:  eight V100s in torchvision. Not run by this project.
Deviation: images are fitted into a square, of 1,024 pixels where theirs have a short side of 800
           and a long one of at most 1,333; images without objects are trained on, too. SSD: colours
           are changed always, theirs each with a probability of 0.5. SSDLite: half of the images
           lie on a larger ground first, theirs never. Of both 1,000 boxes of all classes compete in
           the end (eval.candidates), theirs 400 and 300 of each class. MobileNetV3: all stages are
           trained, theirs the last three of six; at 320 pixels there are 150 proposals in training,
           too. YOLOX: the images of a mosaic have sizes of their own, theirs one together, and are
           not turned; no mixup, one size of images, no L1 loss at the end. DETR: images are not
           cut, and there is no mask of what is beside them.
"""

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError

# Head, backbone, pixels.
VARIANTS = {
    "retinanet_resnet50": ("retinanet", "resnet50", 1024),
    "fcos_resnet50": ("fcos", "resnet50", 1024),
    "faster_rcnn_resnet50": ("faster_rcnn", "resnet50", 1024),
    "mask_rcnn_resnet50": ("mask_rcnn", "resnet50", 1024),
    "retinanet_v2_resnet50": ("retinanet_v2", "resnet50", 1024),
    "faster_rcnn_v2_resnet50": ("faster_rcnn_v2", "resnet50", 1024),
    "mask_rcnn_v2_resnet50": ("mask_rcnn_v2", "resnet50", 1024),
    "detr_resnet50": ("detr", "resnet50", 1024),
    "faster_rcnn_mobilenet_v3_large": ("faster_rcnn_mobile", "mobilenet_v3_large", 1024),
    "faster_rcnn_mobilenet_v3_large_320": ("faster_rcnn_mobile", "mobilenet_v3_large", 320),
    "ssd300_vgg16": ("ssd", "vgg16", 300),
    "ssdlite320_mobilenet_v3_large": ("ssdlite", "mobilenet_v3_large", 320),
    "yolox_nano": ("yolox", "cspdarknet_nano", 416),
    "yolox_tiny": ("yolox", "cspdarknet_tiny", 416),
    "yolox_s": ("yolox", "cspdarknet_s", 640),
    "yolox_m": ("yolox", "cspdarknet_m", 640),
}


def get_config(variant="retinanet_resnet50"):
    if variant not in VARIANTS:
        raise ConfigError(f"configs/detect_coco.py:{variant}: expected {', '.join(VARIANTS)}")
    config = base_config()
    head, backbone, size = VARIANTS[variant]
    config.task = "instances" if "mask" in head else "detection"
    config.model.name = backbone
    config.model.head = head
    config.data.name = "coco:COCO2017"
    config.data.eval_split = "val"
    config.data.image_size = size
    config.augment.flip = True
    config.optim.name = "sgd"
    config.optim.momentum = 0.9
    config.optim.nesterov = head == "yolox"
    recipes = {"ssd": _ssd, "ssdlite": _ssdlite, "yolox": _yolox, "detr": _detr}
    recipes["retinanet_v2"] = _retinanet_v2
    recipes |= dict.fromkeys(("faster_rcnn_v2", "mask_rcnn_v2"), _rcnn_v2)
    recipes.get(head, _torchvision)(config)
    config.eval.batch_size = 16
    return config


def _torchvision(config):
    """26 epochs, of RetinaNet, FCOS and R-CNNs."""
    config.batch_size = 16
    config.duration = "26 epochs"
    config.model.frozen_norm = True
    if config.data.image_size == 320:
        config.model.proposals = 150
    config.data.train_crop = config.data.eval_crop = "letterbox"
    config.optim.learning_rate = 0.02 if "rcnn" in config.model.head else 0.01
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    if config.model.name == "resnet50":  # three stages of five are trained
        config.optim.rules = ("^backbone/body/(conv1|layer1) frozen",)
    _steps(config, "16 epochs", "22 epochs")


def _steps(config, *boundaries):
    config.schedule.name = "step"
    config.schedule.boundaries = boundaries
    config.schedule.interval = "epoch"
    config.schedule.warmup = "1000 steps"
    config.schedule.warmup_start = 0.001


def _rcnn_v2(config):
    """400 epochs of images of very different sizes, LSJ."""
    config.batch_size = 64
    config.duration = "400 epochs"
    config.model.bn_group_size = 64
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (0.1, 2.0)
    config.data.eval_crop = "letterbox"
    config.optim.learning_rate = 0.1
    config.optim.weight_decay = 4e-5
    config.optim.decayed = ("@all",)
    _steps(config, "352 epochs", "384 epochs")


def _retinanet_v2(config):
    config.batch_size = 16
    config.duration = "26 epochs"
    config.model.bn_group_size = 16
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (480 / 800, 1.0)
    config.data.eval_crop = "letterbox"
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-4
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@not_norms",)
    config.optim.rules = ("^backbone/body/(conv1|bn1|layer1) frozen",)
    _steps(config, "16 epochs", "22 epochs")


def _detr(config):
    config.batch_size = 64
    config.duration = "500 epochs"
    config.model.frozen_norm = True
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (480 / 800, 1.0)
    config.data.eval_crop = "letterbox"
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-4
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.optim.clip_norm = 0.1
    config.optim.rules = ("^backbone/body/(conv1|layer1) frozen", "^backbone rate=0.1")
    _steps(config, "400 epochs")
    config.schedule.warmup = "0 steps"


def _ssd(config):
    config.batch_size = 32
    config.duration = "120 epochs"
    config.data.train_crop = "ssd_crop"
    config.data.eval_crop = "resize"
    config.augment.mean = (0.48235, 0.45882, 0.40784)
    config.augment.std = (1 / 255, 1 / 255, 1 / 255)
    config.augment.brightness = 0.125
    config.augment.contrast = 0.5
    config.augment.saturation = 0.5
    config.augment.hue = 0.05
    config.optim.learning_rate = 0.002
    config.optim.weight_decay = 5e-4
    config.optim.decayed = ("@all",)
    _steps(config, "80 epochs", "110 epochs")


def _ssdlite(config):
    config.batch_size = 192
    config.duration = "660 epochs"
    config.model.reduced_tail = True
    config.model.bn_group_size = 24
    config.data.train_crop = "ssd_crop"
    config.data.eval_crop = "resize"
    config.augment.mean = config.augment.std = (0.5, 0.5, 0.5)
    config.optim.learning_rate = 0.15
    config.optim.weight_decay = 4e-5
    config.optim.decayed = ("@all",)
    config.schedule.name = "cosine"
    config.schedule.interval = "epoch"
    config.schedule.warmup = "1000 steps"
    config.schedule.warmup_start = 0.001


def _yolox(config):
    small = config.model.name in ("cspdarknet_nano", "cspdarknet_tiny")
    config.batch_size = 64
    config.duration = "300 epochs"
    config.ema_decay = 0.9998
    config.model.bn_group_size = 8
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (0.5, 1.5) if small else (0.1, 2.0)
    config.data.mosaic = 0.5 if config.model.name == "cspdarknet_nano" else 1.0
    config.stages = ("285 epochs: data.mosaic=0 data.train_crop=letterbox",)
    config.data.eval_crop = "letterbox"
    config.data.pad_fill = (114, 114, 114)
    config.augment.mean = (0.0, 0.0, 0.0)
    config.augment.std = (1 / 255, 1 / 255, 1 / 255)
    config.augment.hue = 0.015
    config.augment.saturation = 0.3
    config.augment.brightness = 0.3
    config.optim.learning_rate = 0.01
    config.optim.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.end = 0.05
    config.schedule.warmup = "5 epochs"
