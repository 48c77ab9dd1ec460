"""Bag of tricks (He et al. 2018): cosine, smoothing, no decay of biases and norms, ResNet-D, mixup.

Command:   python launch.py --config=bag_of_tricks --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs in the source, 128 images each (less for ResNet-152).
Deviation: bfloat16 in place of float16, or of float32 with ResNet-152; pairs of neighbours are
           mixed, theirs with the batch of a GPU in reverse; initial kernels from N(0, 2 / fan_out),
           theirs N(0, 1.88 / the mean of both fans); theirs is the best epoch after the 50th, here
           the last one.
Unknown:   the paper's 79.29 of ResNet-50-D has a distillation from ResNet-152-D whose constants
           nobody here has opened: the variants are the authors' published runs without it.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "arXiv 1812.01187; dmlc/gluon-cv fed86366 train_imagenet.py; dmlc/web-data logs and scripts of "
    "gluoncv/logs/classification/imagenet"
)
RECIPES = {
    "resnet50d_mixup": Published(79.15, SOURCE, spread="the best epoch"),
    "resnet50d": Published(78.48, SOURCE, spread="the best epoch"),
    "resnet50": Published(77.67, SOURCE, spread="the best epoch"),
    "resnet101d_mixup": Published(80.51, SOURCE, spread="the best epoch"),
    "resnet101d": Published(79.78, SOURCE, spread="the best epoch"),
    "resnet101": Published(79.20, SOURCE, spread="the best epoch"),
    "resnet152d_mixup": Published(80.61, SOURCE, spread="the best epoch"),
    "resnet152d": Published(80.26, SOURCE, spread="the best epoch"),
}
_IMAGES_OF_A_GPU = {"resnet152d_mixup": 32, "resnet152d": 64}


def get_config(variant="resnet50d_mixup"):
    model, _, mixup = variant.partition("_")
    config = imagenet_config(model)
    images = _IMAGES_OF_A_GPU.get(variant, 128)
    config.batch_size = 8 * images
    config.duration = "200 epochs" if mixup else "120 epochs"
    config.model.zero_init_residual = True
    config.model.bn_group_size = images
    config.data.resize_antialias = False
    config.augment.brightness = 0.4
    config.augment.contrast = 0.4
    config.augment.saturation = 0.4
    config.augment.lighting = 0.1
    config.augment.mixup = 0.2 if mixup else 0.0
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1 * config.batch_size / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@kernels",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    return config
