"""MLPerf's ResNet-50 with LARS, as Google ran it on TPUs with batches of 2,048 to 65,536 in 2020.

The two large ones in JAX, 4,096 in TensorFlow 2 on a v3-32, 2,048 in TensorFlow on a v4-16.

Command:   python launch.py --config=mlperf_lars:32k --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU pod: hundreds of chips; 32 cores of a v3 (4k), 16 chips of a v4 (2k).
Target:    75.9 % top-1, which such a run has to reach.
Deviation: random crops as torchvision draws them, theirs as TensorFlow does; levels beyond 0 to
           255 of bicubic interpolation are cut off (not in 4k, which is bilinear); torchvision's
           padding of the maximum pool, theirs is SAME, and so is in JAX (32k, 64k) that of the
           strided 3x3 convolutions.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

_RUNS = "mlcommons/training_results_v0.7 c6640611 Google/benchmarks/resnet/{}/run_and_time.sh"
SOURCE = "mlcommons/training_results_v0.7 c6640611; mlcommons/training lars_util.py dc72f48c"
RECIPES = {
    "32k": Published(75.9, SOURCE, hardware="the benchmark's target"),
    "64k": Published(75.9, SOURCE, hardware="TPU v3-8192; the benchmark's target"),
    "4k": Published(
        75.9, _RUNS.format("tpu-v3-32-TF2.0"), hardware="TPU v3-32; the benchmark's target"
    ),
    "2k": Published(
        75.9, _RUNS.format("tpu-v4-16-TF"), hardware="TPU v4-16; the benchmark's target"
    ),
}


# Images, epochs of the run and of the warmup, rate, momentum, decay, images of a core.
_SETTINGS = {
    "32k": (32768, 64, 18, 29.0, 0.929, 1e-4, 64),
    "64k": (65536, 92, 33, 23.0809773, 0.9537213777059405, 1e-4, 64),
    "4k": (4096, 41, 2, 13.0, 0.9, 2e-4, 128),
    "2k": (2048, 41, 5, 8.5, 0.9, 2e-4, 128),
}


def get_config(variant="32k"):
    config = imagenet_config("resnet50")
    images, epochs, warmup, rate, momentum, decay, group = _SETTINGS[variant]
    config.batch_size = images
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = group
    config.loss.label_smoothing = 0.1
    config.optim.name = "lars"
    config.optim.learning_rate = rate
    config.optim.momentum = momentum
    config.optim.nesterov = False
    config.optim.trust = 0.001
    config.optim.weight_decay = decay
    config.schedule.name = "polynomial"
    config.schedule.power = 2.0
    config.schedule.warmup = f"{warmup} epochs"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-4
    _change(config, variant)
    return config


def _change(config, variant):
    """What differs between their programs: the images and the initial kernels."""
    config.data.resize_antialias = False
    if variant == "4k":
        config.model.conv_init = "fan_in"
        config.model.zero_init_residual = False
        config.data.crop_area = (0.05, 1.0)
        config.augment.mean = (123.68 / 255, 116.78 / 255, 103.94 / 255)
        config.augment.std = (1 / 255, 1 / 255, 1 / 255)
    else:
        config.model.conv_init = "lecun"
        config.data.resize_method = "bicubic"
        config.data.eval_crop = "center_crop"
        config.data.eval_crop_fraction = 224 / 256
        config.data.eval_resize = 0
    if variant == "2k":
        config.data.crop_area = (0.05, 1.0)
    if variant in ("4k", "2k"):  # in TensorFlow
        config.data.crop_ratio = (0.75, 1.33)
