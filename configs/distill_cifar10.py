"""A narrow ResNet-8 on CIFAR-10 that learns from a wider one, on two CPU cores.

Command:   first the teacher, then
           JAX_NUM_CPU_DEVICES=2 python launch.py --config=distill_cifar10:runs/cifar10_cpu
           and for comparison the same network without it: --config=distill_cifar10:none
           After the colon stands what config.distill.weights can be: the working directory of a
           run, a file, or a name of `launch.py models`.
"""

from imagenet_jax.config import load_config


def get_config(teacher="runs/cifar10_cpu"):
    config = load_config("cifar10_cpu")
    config.duration = "2 epochs"
    config.model.width = 8
    config.eval.every = "1 epochs"
    if teacher != "none":
        config.distill.weights = teacher
        config.distill.temperature = 4.0
        config.distill.share = 0.9
    return config
