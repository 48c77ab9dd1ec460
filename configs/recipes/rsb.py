"""ResNet strikes back: LAMB, binary cross-entropy, RandAugment, mixing; A1, A2 and A3.

Command:   python launch.py --config=rsb:a2 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  4 x V100 with 32 GB for 4.6 days (A1, the paper).
Deviation: bfloat16 in place of float16 with loss scaling; pairs of neighbours are mixed, timm mixes
           with the batch in reverse; the classifier starts from a normal distribution with the
           standard deviation of torch's uniform one, its bias at 0; the warmup begins at 1e-4
           of the peak at each step (mmpretrain's copy of the recipe), its 5 epochs take the place
           of the cosine's beginning as in timm; the cosine falls at each step, theirs at each
           epoch.
Unknown:   on how many GPUs A2 and A3 ran, and so how many images share batch statistics: here 256.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "arXiv 2110.00476; timm; open-mmlab/mmpretrain ee7f2e88 configs/resnet/*rsb*"
RECIPES = {
    "a1": Published(80.4, SOURCE, spread="80.38 as timm evaluates", hardware="4 x V100, 4.6 days"),
    "a2": Published(79.8, SOURCE, spread="79.83 as timm evaluates"),
    "a3": Published(78.1, SOURCE, spread="78.05 as timm evaluates"),
}


def get_config(variant="a2"):
    config = imagenet_config("resnet50")
    config.batch_size = 2048
    config.duration = {"a1": "600 epochs", "a2": "300 epochs", "a3": "100 epochs"}[variant]
    config.model.head_std = (3 * 2048) ** -0.5
    config.model.bn_group_size = 512 if variant == "a1" else 256  # of a GPU: 2,048 on 4
    config.model.drop_path = 0.0 if variant == "a3" else 0.05
    config.data.train_size = 160 if variant == "a3" else 224
    config.data.resize_method = "bicubic"
    config.data.eval_resize = 235
    config.data.policy = "randaugment_timm"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 6 if variant == "a3" else 7
    config.data.policy_magnitude_std = 0.5
    config.data.policy_increasing = True
    config.data.policy_prob = 0.5
    config.data.repeats = 1 if variant == "a3" else 3
    config.augment.mixup = 0.2 if variant == "a1" else 0.1
    config.augment.cutmix = 1.0
    config.augment.switch_prob = 0.5
    config.augment.mix_per = "batch"
    config.loss.name = "sigmoid"
    config.loss.class_reduction = "mean"
    config.loss.target_threshold = 0.2
    config.loss.label_smoothing = 0.1 if variant == "a1" else 0.0
    config.optim.name = "lamb"
    config.optim.learning_rate = 8e-3 if variant == "a3" else 5e-3
    config.optim.eps = 1e-6
    config.optim.weight_decay = 0.01 if variant == "a1" else 0.02
    config.optim.decayed = ("@timm",)
    config.optim.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False
    config.schedule.unit = "rate"
    config.schedule.warmup_start = 1e-4 * config.optim.learning_rate
    config.schedule.end = 1e-6
    return config
