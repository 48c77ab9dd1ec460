"""MLPerf's ResNet-50 with plain SGD, as NVIDIA ran it on eight A100 in v0.7 (2020).

Command:   python launch.py --config=mlperf_sgd --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 x A100, 408 images each.
Target:    75.9 % top-1, which such a run has to reach; theirs aimed at epoch 41 of 42.
Deviation: bfloat16 in place of float16; their momentum has the rate within, which differs while it
           changes.
Unknown:   whether MXNet's SGD in their container lets BatchNorm's scales decay, as the published
           MXNet does; as in the same file's LARS, which says it, they do not here.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "mlcommons/training_results_v0.7 c6640611 NVIDIA/benchmarks/resnet/implementations/mxnet: "
    "config_DGXA100.sh, common/fit.py, train_imagenet.py"
)
RECIPES = {"a100_x8": Published(75.9, SOURCE, hardware="8 x A100; the benchmark's target")}


def get_config(variant="a100_x8"):
    config = imagenet_config("resnet50")
    config.batch_size = 8 * 408
    config.duration = "42 epochs"
    config.model.zero_init_residual = False
    config.model.conv_init = "fan_in"
    config.model.head_std = 0.01
    config.model.bn_group_size = 408
    config.data.crop_area = (0.05, 1.0)
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 6.0
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 2.5e-5
    config.optim.decayed = ("@not_norms",)  # kernels and the classifier's bias
    config.schedule.name = "polynomial"
    config.schedule.power = 2.0
    config.schedule.warmup = "5 epochs"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-4
    return config
