"""torchvision's recipe for segmentation: VOC's 21 classes, 30 epochs, from ImageNet's weights.

Command:   python launch.py --config=segment_voc:deeplabv3_resnet50 \\
               --config.data.name=masks:VOCdevkit/VOC2012 --config.finetune.weights=resnet50
           or fcn_resnet50, fcn_resnet101, deeplabv3_resnet101, deeplabv3_mobilenet_v3_large,
           lraspp_mobilenet_v3_large, or unet_resnet34, unet_resnet50, unet on any other backbone
Source:    pytorch/vision references/segmentation; mean IoU on COCO's validation images with VOC's
           classes: FCN 60.5 (ResNet-50), 63.7 (101), DeepLabV3 66.4, 67.4, 60.3 (MobileNet v3),
           LRASPP 57.9. There is no number for U-Net.
Hardware:  eight V100s in the source. Not run by this project.
Deviation: theirs are trained on COCO's images with VOC's classes, of which there is no data set
           here; evaluation images are fitted into a square, theirs have a short side of 520.
"""

from imagenet_jax.config import base_config


def get_config(variant="deeplabv3_resnet50"):
    config = base_config()
    head, _, backbone = variant.partition("_")
    has_second_head = head in ("fcn", "deeplabv3")
    config.task = "segmentation"
    config.batch_size = 32
    config.duration = "30 epochs"
    config.model.name = backbone
    config.model.head = head
    config.model.bn_group_size = 32
    config.data.name = "masks:VOCdevkit/VOC2012"
    config.data.eval_split = "val"
    config.data.image_size = 520
    config.data.train_size = 480
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (260 / 480, 1040 / 480)
    config.data.jitter_side = "short"
    config.data.pad_fill = (0, 0, 0)
    config.data.eval_crop = "letterbox"
    config.loss.label_smoothing = 0.0
    config.loss.auxiliary = 0.5 if has_second_head else 0.0
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.02
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-6 if "mobilenet" in backbone else 1e-4
    config.optim.decayed = ("@all",)
    config.optim.rules = ("^aux_classifier rate=10",) if has_second_head else ()
    config.schedule.name = "polynomial"
    config.schedule.power = 0.9
    config.eval.batch_size = 32
    return config
