"""A narrow ResNet-8 on CIFAR-10 that learns from a wider one, on two CPU cores.

Command:   first the teacher:
           JAX_NUM_CPU_DEVICES=2 python launch.py --config=cifar10_cpu --config.model.width=32
               --config.duration="2 epochs" --workdir=runs/cifar10_cpu
           then
           JAX_NUM_CPU_DEVICES=2 python launch.py --config=distill_cifar10:runs/cifar10_cpu
           and for comparison the same network without it: --config=distill_cifar10:none
           After the colon stands what config.distill.weights can be: the working directory of a
           run, a file, or a name of `launch.py models`.
Hardware:  2 CPU cores, 19 s without a teacher and 32 s with one.
Accuracy:  after 400 steps, half an epoch, on the test images re-encoded as JPEG, three seeds each:
           43.02 % top-1 with the teacher (42.82, 42.43, 43.82), 39.79 % without
           (38.63, 39.81, 40.92). The teacher was cifar10_cpu with --config.model.width=32 and
           --config.duration="2 epochs" (begun as 6 epochs, shortened after 329 steps): 63.68 %.
           So weak a teacher helps most at the start: with --config.duration="2 epochs" two seeds
           gave 58.31 and 59.42 % with it, 57.93 and 58.56 % without. A good one is not yet tried.
"""

from imagenet_jax.config import load_config


def get_config(teacher="runs/cifar10_cpu"):
    config = load_config("cifar10_cpu")
    config.duration = "400 steps"
    config.model.width = 8
    config.eval.every = "200 steps"
    if teacher != "none":
        config.distill.weights = teacher
        config.distill.temperature = 4.0
        config.distill.share = 0.9
    return config
