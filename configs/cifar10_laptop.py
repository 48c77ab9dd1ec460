"""airbench's network on CIFAR-10 for a laptop with two CPU cores.

Command:   python launch.py --config=cifar10_laptop
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
           (JAX_NUM_CPU_DEVICES=2 --config.model.bn_group_size=512 was faster: 166 images/s)
Hardware:  2 CPU cores; 75 minutes of training by the speed of its first steps.
Accuracy:  aims at 94 % top-1; not yet run by this project. It is `airbench:94` with more epochs and
           in float32, see configs/recipes/airbench.py.
"""

from imagenet_jax.config.files import load_config


def get_config():
    config = load_config("airbench:94")
    config.duration = "25 epochs"
    config.eval.batch_size = 250
    config.eval.every = "10 epochs"
    return config
