"""airbench's network on CIFAR-10 for a laptop: two CPU cores and an hour and a half.

Command:   python launch.py --config=cifar10_laptop
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
Hardware:  2 CPU cores.
Accuracy:  aims at 94 % top-1; not yet run by this project. It is `airbench:94` with more epochs and
           in float32, see configs/recipes/airbench.py.
"""

from imagenet_jax.config.files import load_config


def get_config():
    config = load_config("airbench:94")
    config.duration = "15 epochs"
    config.model.dtype = "float32"
    config.eval.batch_size = 250
    return config
