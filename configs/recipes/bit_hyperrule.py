"""BiT-HyperRule: fine-tuning BiT-M with constants that follow from the size of the data set.

Command:   python launch.py --config=bit_hyperrule:imagenet --workdir=DIR --config.data.dir=TFDS_DIR
               --config.finetune.weights=FILE
           FILE is timm's of resnetv2_50x1_bit.goog_in21k, or of another BiT with its model.name.
           Other data: imagenet's constants are those of 500,000 training images or more, medium's
           of 20,000 or more, small's of fewer; name the data by --config.data.name. medium_96 and
           small_96 are for images of less than 96 x 96 pixels, as CIFAR's.
Hardware:  8 x V100 with accumulate = 4.
Deviation: bfloat16 in place of float32; pairs of neighbours are mixed, theirs by a random
           permutation of the batch; a rate falls one step earlier.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "arXiv 1912.11370; google-research/big_transfer 140de6e7 bit_hyperrule.py, bit_pytorch/train.py"
)
RECIPES = {
    "imagenet": Published(80.68, f"{SOURCE}, README", hardware="8 x V100"),
    "medium": Published(None, SOURCE),
    "medium_96": Published(None, SOURCE),
    "small": Published(None, SOURCE),
    "small_96": Published(None, SOURCE),
}
# Steps: of the warmup, until the rate falls, in all.
STEPS = {
    "imagenet": (500, 6000, 12_000, 18_000, 20_000),
    "medium": (500, 3000, 6000, 9000, 10_000),
    "small": (100, 200, 300, 400, 500),
}


def get_config(variant="imagenet"):
    size, _, low = variant.partition("_")
    warmup, *falls, total = STEPS[size]
    config = imagenet_config("bit_r50x1")
    config.finetune.weights = "resnetv2_50x1_bit.goog_in21k.safetensors"
    config.batch_size = 512
    config.duration = f"{total} steps"
    config.data.name = "imagenet2012" if size == "imagenet" else ""
    config.data.train_split = "train"
    config.data.train_crop = "resize_random_crop"
    config.data.train_resize = 160 if low else 512
    config.data.image_size = 128 if low else 480
    config.data.eval_crop = "resize"
    config.data.eval_resize = 0
    config.augment.mixup = 0.0 if size == "small" else 0.1
    config.augment.mix_per = "batch"
    config.augment.mean = config.augment.std = (0.5, 0.5, 0.5)
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.003
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 0.0
    config.schedule.name = "step"
    config.schedule.warmup = f"{warmup} steps"
    config.schedule.boundaries = tuple(f"{step} steps" for step in falls)
    config.schedule.factor = 0.1
    return config
