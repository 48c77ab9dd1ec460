"""SimCLR of ResNet-50 on ImageNet, without labels, as its authors run it on TPUs.

Command:   python launch.py --config=simclr_resnet50:100 --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py evaluate --workdir=DIR --probe
Hardware:  32 TPU v3 chips, about 6 hours for 100 epochs, by its authors.
Accuracy:  64.5 % top-1 of a linear layer on the features after 100 epochs, 69.1 % after 1,000 (the
           paper has 69.3 %), published. The reference trains that layer on augmented images.
Deviation: colour jitter as torchvision's, where theirs draws TensorFlow's contrast; the 69.1 % are
           of the paper's program, whose projector has two layers and not three; the projector's
           last BatchNorm has a shift, and its layers start from torch's range, theirs from
           N(0, 0.01).
"""

from imagenet_jax.config.recipe import Published, imagenet_config, two_views

SOURCE = "arXiv 2002.05709; google-research/simclr 0075cc07 README.md, tf2"
_LINEAR = "linear probe"
RECIPES = {
    "100": Published(64.5, SOURCE, spread=_LINEAR, hardware="32 TPU v3, about 6 hours"),
    "1000": Published(69.1, SOURCE, spread=_LINEAR),
}


def get_config(epochs="1000"):
    config = imagenet_config("resnet50")
    config.task = "simclr"
    config.batch_size = 4096
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = 0
    config.data.crop_area = (0.08, 1.0)
    config.data.resize_method = "bicubic"
    two_views(config, 1.0)
    config.augment.blur = 0.5
    config.augment.mean = (0.0, 0.0, 0.0)
    config.augment.std = (1.0, 1.0, 1.0)
    config.pretrain.layers = 3 if epochs == "100" else 2
    config.pretrain.norm = "all"
    config.pretrain.temperature = 0.1
    config.optim.name = "lars"
    config.optim.learning_rate = 0.3 * 4096 / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-6
    config.schedule.name = "cosine"
    config.schedule.warmup = "10 epochs"
    config.eval.every = "10 epochs"
    return config
