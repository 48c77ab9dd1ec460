"""CIFAR-10 of which 40 images a class have labels: FixMatch, Mean Teacher, or those labels alone.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=fixmatch_cifar10
           ... --config=fixmatch_cifar10:mean_teacher
           ... --config=fixmatch_cifar10:supervised    the baseline: 400 images, as many steps
           python launch.py --config=fixmatch_cifar10:paper    on an accelerator
Hardware:  2 CPU cores. `paper`: one accelerator.
Accuracy:  FixMatch 46.0 % of the test images after 6,000 steps, 43 minutes beside other work, one
           run. By steps 1,200, 2,400 and 4,800 it had 40.7, 42.5 and 45.3 %: halfway the images
           with labels were known by heart, and 25 to 32 % of the others were clear. The labels
           alone and Mean Teacher are not yet run.

`paper` is the setting of FixMatch with RandAugment (Sohn et al. 2020, and
google-research/fixmatch): 64 images with labels and 448 without a step, 2^20 steps, SGD 0.03 with
Nesterov momentum, the rate of cos(7 pi k / 16 K), threshold 0.95, decay 5e-4 of kernels, averaged
weights 0.999. It is other than there in what follows, so that no accuracy is claimed:
- The network is a ResNet-20 of width 32, 1.1 million parameters; theirs is WRN-28-2, 1.5 million.
- RandAugment's magnitude is 10 of torchvision's 30; theirs is drawn anew for each batch.
- Cutout covers up to a quarter of the image with the mean colour; theirs a square of up to half
  the side.
- Images without labels are those that have none; theirs are all.
"""

from imagenet_jax.config import base_config


def get_config(task: str = "fixmatch"):
    config, is_paper = base_config(), task == "paper"
    config.task = {"supervised": "classification", "paper": "fixmatch"}.get(task, task)
    config.batch_size = 512 if is_paper else 128
    config.duration = "1048576 steps" if is_paper else "6000 steps"
    config.ema_decay = 0.999
    config.model.name = "resnet20" if is_paper else "resnet8"
    config.model.width = 32 if is_paper else 24
    config.model.stem = "cifar" if is_paper else "cifar_half"
    config.model.bn_group_size = 0 if is_paper else 64
    if not is_paper:
        config.model.dtype = "float32"
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.labelled_per_class = 40
    if task != "supervised":
        config.data.labelled_share = 0.125
    if config.task == "fixmatch":
        config.data.views = 2
        config.data.policy = "randaugment"
        config.data.policy_magnitude = 10.0
        config.augment.erase = 1.0
        config.augment.erase_area = (0.02, 0.25)
        config.augment.erase_ratio = (1.0, 1.0)
    else:
        config.data.cache = True
    if task == "mean_teacher":
        config.augment.noise = 0.05
        config.semi.weight = 20.0
        config.semi.ramp_up = "20 percent"
    config.augment.pad = 4
    config.augment.pad_mode = "reflect"
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.loss.label_smoothing = 0.0
    config.optim.learning_rate = 0.03 if is_paper else 0.06
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    if is_paper:
        config.ema_ramp = "none"
        config.schedule.name = "quarter_cosine"
        config.schedule.end = 0.19509
    else:
        config.schedule.warmup = "5 percent"
    config.eval.batch_size = 250
    config.eval.every = "10 percent"
    config.checkpoint.every = "10 percent"
    config.log.every = "200 steps"
    return config
