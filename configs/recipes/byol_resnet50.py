"""BYOL of ResNet-50 on ImageNet, without labels and without negatives, by DeepMind.

Command:   python launch.py --config=byol_resnet50:300 --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py evaluate --workdir=DIR --probe
Hardware:  512 TPU v3 cores, about 8 hours for 1,000 epochs, by its authors.
Accuracy:  72.5 % top-1 of a linear layer on the features after 300 epochs, 74.3 % after 1,000,
           published (from the paper; not looked up again here). That layer learns from augmented
           images.
Deviation: both views go through the network together, so that BatchNorm sees them as one batch;
           levels are cut to 0 to 255 after all changes of colour and not after each; the teacher
           moves after the step; the last layers of projector and predictor have a bias.
"""

from imagenet_jax.config.recipe import Published, byol_views, imagenet_config

SOURCE = "arXiv 2006.07733; google-deepmind/deepmind-research byol/"
_LINEAR = "linear probe"
RECIPES = {
    "100": Published(None, SOURCE),
    "300": Published(72.5, SOURCE, spread=_LINEAR),
    "1000": Published(74.3, SOURCE, spread=_LINEAR, hardware="512 TPU v3 cores, about 8 hours"),
}

# Rate for 256 images, weight decay and decay of the average, by epochs.
_SETTINGS = {"100": (0.45, 1e-6, 0.99), "300": (0.3, 1e-6, 0.99), "1000": (0.2, 1.5e-6, 0.996)}


def get_config(epochs="1000"):
    rate, decay, ema = _SETTINGS[epochs]
    config = imagenet_config("resnet50")
    config.task = "byol"
    config.batch_size = 4096
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = 0
    config.data.crop_area = (0.08, 1.0)
    config.data.resize_method = "bicubic"
    byol_views(config)
    config.augment.jitter = "tensorflow"
    config.pretrain.hidden = 4096
    config.pretrain.size = 256
    config.pretrain.predictor = 4096
    config.ema_decay = ema
    config.ema_ramp = "cosine"
    config.optim.name = "lars"
    config.optim.learning_rate = rate * 4096 / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = decay
    config.schedule.name = "cosine"
    config.schedule.warmup = "10 epochs"
    config.eval.weights = "raw"
    config.eval.every = "10 epochs"
    return config
