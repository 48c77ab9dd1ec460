"""EfficientNet B0 to B7 by AutoAugment, and B5 and B7 by RandAugment, as Google trains them.

Command:   python launch.py --config=efficientnet:b0 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU of 32 cores; on less raise accumulate.
Deviation: torch's padding and initial depthwise kernels, as in the networks here; which images are
           held out (25,022 of those trained on); random crops as torchvision draws them (uniform
           area, log-uniform ratio), theirs as TensorFlow does; in evaluation, too, levels beyond 0
           to 255 of bicubic interpolation are cut off; a JPEG's crop may be decoded at a half, a
           quarter or an eighth (data.draft).
Unknown:   on how many cores theirs ran: statistics of BatchNorm are over 512 images, those of 8 of
           32 cores, their script's default.
Note:      evaluation is on size / (size + 32) of the short side, as it was when these numbers were
           reported; since 22d5cab, of 2021-11-15, theirs is on 87.5 % of it for every size.
"""

from imagenet_jax.config.recipe import Published, efficientnet_training, imagenet_config

SOURCE = "arXiv 1905.11946; tensorflow/tpu 7dc921f8 models/official/efficientnet"
RECIPES = {
    **{
        f"b{number}": Published(top1, SOURCE)
        for number, top1 in enumerate((77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3))
    },
    "b5_randaugment": Published(83.7, SOURCE),
    "b7_randaugment": Published(84.7, SOURCE),
}
SIZES = {
    **{"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600},
}


def get_config(variant="b0"):
    size, _, random = variant.partition("_")
    config = imagenet_config(f"efficientnet_{size}")
    config.batch_size = 2048
    config.duration = "218949 steps"
    config.model.drop_path = 0.2
    config.model.bn_momentum = 0.99
    config.model.bn_epsilon = 1e-3
    config.model.bn_group_size = 512
    config.data.train_split = "train[25022:]"
    config.data.image_size = SIZES[size]
    config.data.resize_method = "bicubic"
    config.data.resize_antialias = False
    config.data.eval_crop = "center_crop"
    config.data.eval_crop_fraction = SIZES[size] / (SIZES[size] + 32)
    config.data.eval_resize = 0
    config.data.policy = "autoaugment_tf"
    if random:
        config.data.policy = "randaugment_tf"
        config.data.policy_ops = 2
        config.data.policy_magnitude = {"b5": 17, "b7": 28}[size]
    efficientnet_training(config)
    config.optim.decayed = ("@not_norms",)
    return config
