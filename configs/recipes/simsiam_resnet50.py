"""SimSiam of ResNet-50 on ImageNet: no labels, no negatives, no teacher.

Command:   python launch.py --config=simsiam_resnet50 --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py evaluate --workdir=DIR --probe
Hardware:  8 V100.
Accuracy:  68.1 % top-1 of a linear layer on the features after 100 epochs, published.
Deviation: the rate of the predictor falls with that of the others, where theirs stays; the last
           BatchNorm of the projector has scale and shift; the rate falls at each step and not at
           each epoch; both views go through the network together.
"""

from imagenet_jax.config.recipe import Published, imagenet_config, two_views

SOURCE = "arXiv 2011.10566; facebookresearch/simsiam 39ac33e6 main_simsiam.py, 0a14f8e9 README.md"
RECIPES = {"100": Published(68.1, SOURCE, spread="linear probe", hardware="8 V100")}


def get_config(epochs="100"):
    config = imagenet_config("resnet50")
    config.task = "simsiam"
    config.batch_size = 512
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = 0
    config.data.crop_area = (0.2, 1.0)
    two_views(config)
    config.augment.blur = 0.5
    config.pretrain.layers = 3
    config.pretrain.size = 2048
    config.pretrain.norm = "all"
    config.pretrain.predictor = 512
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.05 * 512 / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decay_norm_and_bias = True
    config.schedule.name = "cosine"
    config.schedule.warmup = "0 steps"
    config.eval.every = "10 epochs"
    return config
