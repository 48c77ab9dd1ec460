"""ViT-S/16 on ImageNet: the plain 90-epoch recipe of Beyer et al. 2022.

Command:   python launch.py --config=configs/vit_s16.py --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 accelerators with 16 GB or more (128 images each, in two micro-batches: the
           activations of 64 images stay in the scratch memory of a v5e, see docs/step-study.md).
           On fewer, keep batch_size and raise accumulate.
Source:    https://arxiv.org/abs/2205.01580 and google-research/big_vision, commit 0127fb6b,
           configs/vit_s16_i1k.py, which says 76.5 % top-1. Not yet run by this project, and not
           the same to the letter. Other here are:
           - activations in bfloat16, theirs in float32 (products in bfloat16 on a TPU);
           - random crops as torchvision draws them (uniform area, log-uniform ratio), theirs as
             TensorFlow does (uniform ratio, then uniform height);
           - a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft);
           - mixup within pairs of neighbours, theirs with the image before in the batch;
           - evaluation on the validation split alone; theirs looks at train[99%:] too.
Decay:     1e-4 of the kernels a step at the peak of the rate, as theirs: 0.1 times the rate.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.seed = 0
    config.batch_size = 1024
    config.accumulate = 2
    config.duration = "90 epochs"
    config.partitioner = "jit"
    config.compiler_options = (  # docs/step-study.md has what they change, and what they cost
        "TPU v5 lite: xla_tpu_msa_inefficient_use_to_copy_ratio=2",
        "TPU v5 lite: xla_msa_use_bundle_aware_cost_model=true",
        "TPU v5 lite: xla_msa_max_outstanding_evictions=8",
        "TPU v5 lite: xla_tpu_scoped_vmem_limit_kib=24576",
    )
    config.model.name = "vit_s16"
    config.model.pool = "norm_avg"
    config.model.pos_embed = "sincos2d"
    config.model.representation_size = 384
    config.model.kernel_init = "xavier"
    config.model.dtype = "bfloat16"
    config.model.tanh_gelu = True
    config.model.fast_variance = True
    config.data.name = "imagenet2012"
    config.data.train_split = "train[:99%]"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.train_crop = "random_resized_crop"
    config.data.crop_area = (0.05, 1.0)
    config.data.crop_ratio = (0.75, 1.33)
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 10
    config.data.eval_crop = "resize_center_crop"
    config.data.eval_resize = 256
    config.data.resize_method = "bilinear"
    config.data.eval_resize_method = "area"
    config.augment.flip = True
    config.augment.mixup = 0.2
    config.augment.mix_per = "batch"
    config.augment.mean = (0.5, 0.5, 0.5)
    config.augment.std = (0.5, 0.5, 0.5)
    config.loss.label_smoothing = 0.0
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.momentum_dtype = "bfloat16"
    config.optim.weight_decay = 0.1
    config.optim.decayed = ("kernel$",)
    config.optim.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "10000 steps"
    config.schedule.end = 0.0
    config.eval.batch_size = 1024
    config.eval.every = "1 epochs"
    config.checkpoint.every = "1 epochs"
    config.log.every = "100 steps"
    return config
