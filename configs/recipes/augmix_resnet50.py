"""AugMix's ResNet-50: three views of an image, whose answers are to agree.

Command:   python launch.py --config=augmix_resnet50 --workdir=DIR --config.data.dir=TFDS_DIR
           The error on corrupted images: --config.eval.suites=c, or evaluate --suite=c.
Hardware:  not known; each image takes three passes through the network.
Deviation: the policy is torchvision's AugMix of severity 2, whose magnitudes are 0 or a ninth of
           the largest, and whose operations change colours and sharpness, too. The source has
           severity 1, magnitudes of 0.01 to 0.1 of its largest, and none of the latter.
           Mixed images are rounded to 256 levels.
           The source keeps the epoch that is best on the validation set; here the last counts.
           Activations in bfloat16, the source in float32.
           The classifier starts from a normal distribution with the standard deviation of torch's
           uniform one, its bias at 0.
           A JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
Unknown:   on how many GPUs it ran, and so how many images share batch statistics: here 64 views.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "arXiv 1912.02781; google-research/augmix 202cf4c8 imagenet.py, README"
RECIPES = {
    "180": Published(77.53, SOURCE, spread="65.3 mCE"),
    "90": Published(None, SOURCE),  # the program's default, of which they report nothing
}


def get_config(variant="180"):
    config = imagenet_config("resnet50")
    config.batch_size = 256
    config.duration = f"{variant} epochs"
    config.model.zero_init_residual = False
    config.model.head_std = (3 * 2048) ** -0.5
    config.model.bn_group_size = 64
    config.data.views = 3
    config.data.policy = "augmix"
    config.data.policy_magnitude = 2
    config.loss.jsd = 12.0
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.schedule.name = "step"
    third = int(variant) // 3
    config.schedule.boundaries = (f"{third} epochs", f"{2 * third} epochs")
    config.schedule.factor = 0.1
    config.schedule.interval = "epoch"
    return config
