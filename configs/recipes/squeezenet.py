"""SqueezeNet 1.0 by its authors, in Caffe: a root of what is left of the run, no mirroring.

Command:   python launch.py --config=squeezenet --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  one GPU with 32 x 32 images a step in the source.
Deviation: no padding of the last convolution (torchvision's); the rate is outside the momentum
           buffer, theirs within;
           evaluation on a square of the unsqueezed image; bfloat16 activations.
Unknown:   top-1 is that of arXiv 1602.07360, which was not opened.
"""

from imagenet_jax.config.recipe import Published, caffe_images, imagenet_config

SOURCE = "forresti/SqueezeNet 1515b38c SqueezeNet_v1.0"
RECIPES = {"1.0": Published(57.5, SOURCE)}


def get_config(variant="1.0"):
    config = imagenet_config("squeezenet1_0")
    config.batch_size = 1024
    config.duration = "85000 steps"
    config.model.conv_init = "xavier"
    caffe_images(config, 227)
    config.augment.flip = False
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.08
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 2e-4
    config.optim.decayed = ("@all",)
    config.schedule.name = "polynomial"
    config.schedule.power = 0.5
    return config
