"""ResNet-50 on ImageNet: the classic 90-epoch recipe of Goyal et al. 2017.

Command:   python launch.py --config=configs/resnet50.py --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 accelerators with 16 GB or more (128 images each). On fewer, keep batch_size and set
           accumulate, or scale learning_rate with batch_size.
Accuracy:  about 76.3 % top-1: Goyal et al. report errors of 23.6 to 23.7 % for batches of 256 to
           8,192 images (https://arxiv.org/abs/1706.02677, Table 1). Not yet run by this project.
           The recipe as they published it, with batches of 256 to 8,192, is --config=goyal2017.
           Their warmup starts from 0.1, this one from 0; their batch statistics are those of 32
           images, here of the 128 on a device, where model.fused_norm saves time.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.seed = 0
    config.batch_size = 1024
    config.duration = "90 epochs"
    config.compiler_options = (  # docs/step-study.md has what they change
        "TPU v4: xla_tpu_msa_inefficient_use_to_copy_ratio=1.5",
        "TPU v5 lite: xla_tpu_scoped_vmem_limit_kib=32768",
        "TPU v6 lite: xla_tpu_msa_inefficient_use_to_copy_ratio=1.5",
    )
    config.model.name = "resnet50"
    config.model.stem = "imagenet"
    config.model.dtype = "bfloat16"
    config.model.zero_init_residual = True
    config.model.bn_group_size = 128
    config.model.bn_momentum = 0.9
    config.model.bn_epsilon = 1e-5
    config.data.name = "imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.train_crop = "random_resized_crop"
    config.data.crop_area = (0.08, 1.0)
    config.data.crop_ratio = (3 / 4, 4 / 3)
    config.data.eval_crop = "center_crop"
    config.data.eval_crop_fraction = 0.875
    config.data.resize_method = "bilinear"
    config.data.resize_antialias = False
    config.augment.flip = True
    config.augment.mean = (0.485, 0.456, 0.406)
    config.augment.std = (0.229, 0.224, 0.225)
    config.loss.label_smoothing = 0.0
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.4  # 0.1 per 256 images
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.decay_norm_and_bias = False
    config.schedule.name = "step"
    config.schedule.warmup = "5 epochs"
    config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    config.schedule.factor = 0.1
    config.eval.batch_size = 1024
    config.eval.every = "1 epochs"
    config.checkpoint.every = "1 epochs"
    config.log.every = "100 steps"
    return config
