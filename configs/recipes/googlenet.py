"""GoogLeNet as Caffe's bvlc_googlenet with its quick solver: a root of what is left of the run.

Command:   python launch.py --config=googlenet --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  one GPU in the source.
Deviation: the network has BatchNorm and 3x3 in place of 5x5 convolutions (torchvision's), theirs
           local response normalisation and biases that begin at 0.2; the auxiliary heads' first
           linear layers begin as N(0, 0.01^2); the logits' are normal, theirs uniform; the rate is
           outside the momentum buffer, theirs within;
           evaluation on a square of the unsqueezed image; bfloat16 activations.
"""

from imagenet_jax.config.recipe import Published, caffe_images, imagenet_config

SOURCE = "BVLC/caffe 9b891540 models/bvlc_googlenet"
RECIPES = {"caffe": Published(68.7, SOURCE)}


def get_config(variant="caffe"):
    config = imagenet_config("googlenet")
    config.batch_size = 32
    config.duration = "2400000 steps"  # 60 epochs
    config.model.bn_group_size = 32
    config.model.conv_init = "xavier"
    config.model.head_std = 1024**-0.5
    config.model.dropout = 0.4
    caffe_images(config, 224)
    config.loss.auxiliary = 0.3
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 2e-4
    config.optim.rules = ("@biases rate=2 decay=0",)
    config.schedule.name = "polynomial"
    config.schedule.power = 0.5
    return config
