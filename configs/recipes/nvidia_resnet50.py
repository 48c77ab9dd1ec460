"""NVIDIA's ResNet-50 v1.5 (DeepLearningExamples): 50, 90 and 250 epochs, the longest with mixup.

Command:   python launch.py --config=nvidia_resnet50:90 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 256 images in the source, 16 for 50 epochs.
Deviation: bfloat16 in place of float16 with a loss scale of 128; pairs of neighbours are mixed,
           theirs a random permutation of the batch; the classifier starts from a normal
           distribution with the standard deviation of torch's uniform one, its bias at 0.
Note:      the 4,096 images of a DGX-2 have 4.086 in configs.yml; its script of 50 epochs, which is
           taken here, has 4.096.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "NVIDIA/DeepLearningExamples PyTorch/Classification/ConvNets: README 291f0d02, configs.yml "
    "097c7ff9, optimizers.py 4f2c6922, DGX2_RN50_AMP_50E.sh 46ff3707"
)
RECIPES = {
    "90": Published(77.12, SOURCE, spread="+- 0.11", hardware="8 x A100, about 3 hours"),
    "250": Published(78.43, SOURCE, spread="+- 0.11", hardware="8 x A100"),
    "50": Published(75.81, SOURCE, spread="+- 0.08", hardware="DGX-2, 16 x V100"),
}


def get_config(variant="90"):
    config = imagenet_config("resnet50")
    devices, warmup = (16, 16) if variant == "50" else (8, 8)
    config.batch_size = 256 * devices
    config.duration = f"{variant} epochs"
    config.model.zero_init_residual = False
    config.model.conv_init = "fan_in"
    config.model.head_std = (3 * 2048) ** -0.5
    config.model.bn_group_size = 256
    config.data.resize_antialias = variant != "50"  # whose images are DALI's
    config.augment.mixup = 0.2 if variant == "250" else 0.0
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.256 * config.batch_size / 256
    config.optim.momentum = 0.875
    config.optim.nesterov = False
    config.optim.weight_decay = 2**-15
    config.optim.decayed = (r"^(?!.*bn)",)  # so the norms of the shortcuts do, as in the source
    config.schedule.name = "cosine"
    config.schedule.interval = "epoch"
    # The rate of an epoch is (epoch + 1) / warmup of the peak, so the last one of the warmup has
    # the peak, and the cosine's first one again.
    config.schedule.warmup = f"{warmup - 1} epochs"
    config.schedule.warmup_start = 1 / warmup
    config.schedule.hold = "1 epochs"
    return config
