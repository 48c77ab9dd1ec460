"""torchvision's recipe for detectors: COCO, 26 epochs, from ImageNet's weights.

Command:   python launch.py --config=detect_coco:retinanet_resnet50 \\
               --config.data.name=coco:COCO2017 --config.finetune.weights=resnet50
           or fcos_resnet50, faster_rcnn_resnet50
Source:    pytorch/vision references/detection; AP on COCO's validation images: RetinaNet 36.4,
           FCOS 39.2, Faster R-CNN 37.0.
Hardware:  eight V100s in the source. Not run by this project.
Deviation: images are fitted into a square of 1,024 pixels, theirs have a short side of 800 and a
           long one of at most 1,333; images without objects are trained on, too.
"""

from imagenet_jax.config import base_config


def get_config(variant="retinanet_resnet50"):
    config = base_config()
    head, _, backbone = variant.rpartition("_")
    config.task = "detection"
    config.batch_size = 16
    config.duration = "26 epochs"
    config.model.name = backbone
    config.model.head = head
    config.model.frozen_norm = True
    config.data.name = "coco:COCO2017"
    config.data.eval_split = "val"
    config.data.image_size = 1024
    config.data.train_crop = "letterbox"
    config.data.eval_crop = "letterbox"
    config.augment.flip = True
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.02 if head == "faster_rcnn" else 0.01
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.optim.rules = ("^backbone/body/(conv1|layer1) frozen",)
    config.schedule.name = "step"
    config.schedule.boundaries = ("16 epochs", "22 epochs")
    config.schedule.interval = "epoch"
    config.schedule.warmup = "1000 steps"
    config.schedule.warmup_start = 0.001
    config.eval.batch_size = 16
    return config
