"""AlexNet as Caffe's bvlc_alexnet: plain SGD with steps, biases at twice the rate.

Command:   python launch.py --config=alexnet --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  one GPU in the source.
Deviation: the network has one column and no local response normalisation (torchvision's), theirs
           has two groups and one; linear layers begin as N(0, 2 / fan_in), theirs as
           N(0, 0.005^2), and half of their biases begin at 0.1; the rate is outside the momentum
           buffer, theirs within; the mean is that of each channel, theirs of each pixel;
           evaluation on a square of the unsqueezed image; bfloat16 activations.
"""

from imagenet_jax.config.recipe import Published, caffe_images, imagenet_config

SOURCE = "BVLC/caffe 9b891540 models/bvlc_alexnet"
RECIPES = {"caffe": Published(57.1, SOURCE, spread="the snapshot after 360,000 steps")}


def get_config(variant="caffe"):
    config = imagenet_config("alexnet")
    config.batch_size = 256
    config.duration = "450000 steps"
    config.model.conv_init = "normal"
    config.model.head_std = 0.01
    caffe_images(config, 227)
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 5e-4
    config.optim.rules = ("@biases rate=2 decay=0",)
    config.schedule.name = "step"
    config.schedule.boundaries = tuple(f"{n}00000 steps" for n in (1, 2, 3, 4))
    config.schedule.factor = 0.1
    return config
