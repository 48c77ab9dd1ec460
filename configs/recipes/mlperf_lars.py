"""MLPerf's ResNet-50 with LARS, as Google ran it in JAX on TPUs with batches of 32,768 and 65,536.

Command:   python launch.py --config=mlperf_lars:32k --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU pod: hundreds of chips.
Target:    75.9 % top-1, which such a run has to reach.
Deviation: random crops as torchvision draws them, theirs as TensorFlow does; evaluation on the crop
           of 224 of 256 pixels.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "mlcommons/training_results_v0.7 c6640611; mlcommons/training lars_util.py dc72f48c"
RECIPES = {
    "32k": Published(75.9, SOURCE, hardware="the benchmark's target"),
    "64k": Published(75.9, SOURCE, hardware="TPU v3-8192; the benchmark's target"),
}


def get_config(variant="32k"):
    config = imagenet_config("resnet50")
    large = variant == "64k"
    config.batch_size = 65536 if large else 32768
    config.duration = "92 epochs" if large else "64 epochs"
    config.model.bn_group_size = 64
    config.loss.label_smoothing = 0.1
    config.optim.name = "lars"
    config.optim.learning_rate = 23.0809773 if large else 29.0
    config.optim.momentum = 0.9537213777059405 if large else 0.929
    config.optim.nesterov = False
    config.optim.trust = 0.001
    config.optim.weight_decay = 1e-4
    config.schedule.name = "polynomial"
    config.schedule.power = 2.0
    config.schedule.warmup = "33 epochs" if large else "18 epochs"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-4
    return config
