"""ResNet-RS (Bello et al. 2021): 350 epochs with RandAugment, dropout and averaged weights.

Command:   python launch.py --config=resnet_rs:50_160 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  TPUs, 4,096 images; a variant is the depth and the pixels.
Deviation: random crops as torchvision draws them, theirs as TensorFlow does; theirs has BatchNorm's
           last statistics averaged (its momentum is 0), here the running ones are averaged too;
           stochastic depth rises by the block, theirs by the stage; strided convolutions are padded
           on both sides. tensorflow/tpu's code has steps at 30, 60 and 80 of 90 parts of the run,
           the paper a cosine, which is taken as the authors' TensorFlow 2 has it. The evaluation
           leaves 16 pixels out on each side, as their code did when the results were published
           (9e57561); later (from 22d5cab on) it takes 0.875 of the side.
Unknown:   how many images share BatchNorm's statistics, those of a TPU core; 64 are taken.
Note:      in TensorFlow 2, with swish in place of ReLU, they had 79.1 for 50_160, 80.2 for 101_160,
           83.1 for 152_256, 84.2 for 350_320.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "arXiv 2103.07579; tensorflow/tpu 7dc921f8 models/official/resnet/resnet_rs; schedule: "
    "tensorflow/models 0de1746a imagenet_resnetrs50_i160.yaml"
)
RECIPES = {
    "50_160": Published(78.8, SOURCE),
    "101_160": Published(80.3, SOURCE),
    "101_192": Published(81.2, SOURCE),
    "152_192": Published(82.0, SOURCE),
    "152_224": Published(82.2, SOURCE),
    "152_256": Published(83.0, SOURCE),
    "200_256": Published(83.4, SOURCE),
    "270_256": Published(83.8, SOURCE),
    "350_256": Published(84.0, SOURCE),
    "350_320": Published(84.2, SOURCE),
    "420_320": Published(84.4, SOURCE),
}


def get_config(variant="50_160"):
    depth, size = map(int, variant.split("_"))
    config = imagenet_config(f"resnetrs{depth}")
    config.batch_size = 4096
    config.duration = "350 epochs"
    config.ema_decay = 0.9999
    config.model.zero_init_residual = True
    config.model.conv_init = "lecun"
    config.model.head_std = 0.01
    config.model.bn_group_size = 64
    config.model.dropout = 0.4 if size == 320 else 0.25
    config.model.drop_path = 0.1 if depth >= 200 else 0.0
    config.data.image_size = size
    config.data.resize_method = "bicubic"
    config.data.resize_antialias = False
    config.data.eval_crop = "center_crop"
    config.data.eval_crop_fraction = size / (size + 32)
    config.data.eval_resize = 0
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 10 if size == 160 else 15
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 1.6  # 0.1 per 256 images
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 4e-5
    config.optim.decayed = ("@not_norms",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False
    return config
