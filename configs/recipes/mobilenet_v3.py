"""MobileNet v3 large by timm's published command: 600 epochs, RMSProp, RandAugment, erasing.

Command:   python launch.py --config=mobilenet_v3 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  2 GPUs x 512 images in the source.
Deviation: no noise of the rate, theirs has it between 42 and 90 % of the run; bfloat16 in place of
           float16 with loss scaling; initial depthwise kernels are torch's,
           N(0, 2 / (k^2 channels)), theirs N(0, 2 / k^2); the first linear layer begins as
           N(0, 0.01^2), theirs as N(0, 2 / 1280); the logits' kernel is normal, theirs uniform of
           the same deviation.
Unknown:   the command leaves the epochs of warmup and other flags to the script; they are those of
           the named commit, while copies of the script of the time have 3 epochs.
"""

from imagenet_jax.config.files import load_config
from imagenet_jax.config.recipe import Published

SOURCE = "huggingface/pytorch-image-models aa4b5850 hfdocs/source/training_script.mdx, train.py"
RECIPES = {"timm": Published(75.766, SOURCE)}


def get_config(variant="timm"):
    config = load_config(f"timm_efficientnet_b0:{variant}")  # the rest of the command is the same
    config.batch_size = 1024
    config.duration = "600 epochs"
    config.model.name = "mobilenet_v3_large"
    config.model.bn_group_size = 512
    config.model.bn_momentum = 0.9
    config.model.bn_epsilon = 1e-5
    config.model.head_std = 3000**-0.5
    config.model.drop_path = 0.2 * 15 / 16  # theirs counts the last convolution as a block
    config.optim.learning_rate = 0.064
    config.schedule.factor = 0.973
    return config
