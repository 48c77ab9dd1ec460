"""Fine-tuning pretrained weights to a data set of your own.

python launch.py --config=configs/finetune.py:efficientnet_lite0 --config.data.name=folder:PHOTOS

After the colon: a name of `launch.py models`, with a tag if it has several weights; the
preprocessing is that of the weights. PHOTOS holds train/CLASS/*.jpg and validation/CLASS/*.jpg,
or val, or test; of CLASS/*.jpg without splits a tenth of each class is held out to evaluate on.
On a CPU add --config.model.dtype=float32.

After a comma: what is trained.
  full       everything, at a tenth of the learning rate of pre-training (the default)
  head       the last layer, on a frozen network, with AdamW
  layerwise  everything, with AdamW, the layers far from the head less
  lora       low-rank changes of a transformer's attention, and the head, with AdamW

Training stops when the validation accuracy has not risen for five epochs; the best epoch is what
is reported.
"""

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.weights.pretrained import find_pretrained

# Optimizer, learning rate for 256 images, weight decay. SGD's is a tenth of Goyal et al.'s 0.1.
MODES = {
    "full": ("sgd", 0.01, 1e-4),
    "head": ("adamw", 4e-3, 0.0),
    "layerwise": ("adamw", 1e-3, 0.05),
    "lora": ("adamw", 4e-3, 0.0),
}


def get_config(argument: str = "efficientnet_lite0"):
    weights, _, mode = argument.partition(",")
    if mode and mode not in MODES:
        raise ConfigError(f"configs/finetune.py:{argument}: the mode is one of {', '.join(MODES)}")
    optimizer, learning_rate, weight_decay = MODES[mode or "full"]
    config = base_config()
    pretrained = find_pretrained(weights)
    pretrained.apply_preprocessing(config)
    config.finetune.weights = pretrained.name
    config.finetune.mode = mode or "full"
    config.finetune.layer_decay = 0.75
    config.finetune.lora_rank = 8
    config.finetune.lora_alpha = 16.0
    config.model.name = pretrained.model
    config.batch_size = 64
    config.duration = "30 epochs"

    config.data.name = "imagenette"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.train_crop = "random_resized_crop"
    config.data.crop_area = (0.25, 1.0)
    config.augment.flip = True

    config.loss.label_smoothing = 0.1
    config.optim.name = optimizer
    config.optim.learning_rate = learning_rate * config.batch_size / 256
    config.optim.momentum = 0.9
    config.optim.weight_decay = weight_decay
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epochs"

    config.eval.every = "1 epochs"
    config.eval.patience = 5
    config.eval.report = "best"
    config.checkpoint.every = "1 epochs"
    return config
