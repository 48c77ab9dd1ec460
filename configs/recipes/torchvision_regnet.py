"""torchvision's RegNets (the weights IMAGENET1K_V1): 100 epochs of SGD with a cosine.

Command:   python launch.py --config=torchvision_regnet --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs in the source: 128 images each up to 1.6 GF, 64 up to 16 GF (Y: 8), else 32.
Deviation: activations in bfloat16, the source in float32; theirs is the best epoch, here the last
           one; a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "pytorch/vision references/classification (README, train.py); weights of 0.28.0"
_BEST = "the best epoch"
RECIPES = {
    "regnet_x_400mf": Published(72.834, SOURCE, spread=_BEST),
    "regnet_x_800mf": Published(75.212, SOURCE, spread=_BEST),
    "regnet_x_1_6gf": Published(77.040, SOURCE, spread=_BEST),
    "regnet_x_3_2gf": Published(78.364, SOURCE, spread=_BEST),
    "regnet_x_8gf": Published(79.344, SOURCE, spread=_BEST),
    "regnet_x_16gf": Published(80.058, SOURCE, spread=_BEST),
    "regnet_x_32gf": Published(80.622, SOURCE, spread=_BEST),
    "regnet_y_400mf": Published(74.046, SOURCE, spread=_BEST),
    "regnet_y_800mf": Published(76.420, SOURCE, spread=_BEST),
    "regnet_y_1_6gf": Published(77.950, SOURCE, spread=_BEST),
    "regnet_y_3_2gf": Published(78.948, SOURCE, spread=_BEST),
    "regnet_y_8gf": Published(80.032, SOURCE, spread=_BEST),
    "regnet_y_16gf": Published(80.424, SOURCE, spread=_BEST),
    "regnet_y_32gf": Published(80.878, SOURCE, spread=_BEST),
}
_IMAGES_OF_A_GPU = {
    **dict.fromkeys(("x_3_2gf", "x_8gf", "x_16gf", "y_3_2gf", "y_8gf"), 64),
    **dict.fromkeys(("x_32gf", "y_16gf", "y_32gf"), 32),
}


def get_config(variant="regnet_y_1_6gf"):
    config = imagenet_config(variant)
    images = _IMAGES_OF_A_GPU.get(variant.removeprefix("regnet_"), 128)
    config.batch_size = 8 * images
    config.duration = "100 epochs"
    config.model.bn_group_size = images
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.4 if variant == "regnet_y_400mf" else 0.8 * images / 128
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 5e-5
    config.optim.decayed = ("@all",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_start = 0.1
    config.schedule.interval = "epoch"
    return config
