"""torchvision's first recipe for ResNets (the weights IMAGENET1K_V1): 90 epochs of plain SGD.

Command:   python launch.py --config=torchvision_v1 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 32 images in the source; any devices whose number divides 256.
Deviation: activations in bfloat16, the source in float32.
           A JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
Note:      76.13 % is hard to meet again: three runs of a user gave 75.88, 75.38 and 75.49
           (https://github.com/pytorch/vision/issues/5593).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "pytorch/vision references/classification (README, train.py); weights of 0.28.0"
RECIPES = {
    "resnet50": Published(76.130, SOURCE, spread="75.38 to 75.88 in three runs of a user"),
    "resnet18": Published(69.758, SOURCE),
    "resnet34": Published(73.314, SOURCE),
    "resnet101": Published(77.374, SOURCE),
    "resnet152": Published(78.312, SOURCE),
}


def get_config(variant="resnet50"):
    config = imagenet_config(variant)
    config.batch_size = 256
    config.duration = "90 epochs"
    config.model.zero_init_residual = False
    config.model.bn_group_size = 32  # of a GPU in the source
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.schedule.name = "step"
    config.schedule.boundaries = ("30 epochs", "60 epochs")
    config.schedule.factor = 0.1
    config.schedule.interval = "epoch"
    return config
