"""Fine-tuning pretrained weights to a data set of your own.

python launch.py --config=configs/finetune.py:efficientnet_lite0 --config.data.name=folder:PHOTOS

After the colon: a name of `launch.py models`, with a tag if it has several weights; the
preprocessing is that of the weights. PHOTOS holds train/CLASS/*.jpg and validation/CLASS/*.jpg; a
folder without splits is split by `launch.py prepare --dataset=folder:PHOTOS --eval_fraction=0.1`.
On a CPU add --config.model.dtype=float32.

config.finetune.mode says what is trained:
  full       everything, at a tenth of the learning rate of pre-training (the default)
  head       the last layer, on a frozen network
  layerwise  everything, the layers far from the head less (config.finetune.layer_decay)
  lora       low-rank changes of a transformer's attention, and the head;
             with --config.optim.name=adamw --config.optim.learning_rate=0.001

Training stops when the validation accuracy has not risen for five epochs; the best epoch is what
is reported.
"""

from imagenet_jax.config import base_config
from imagenet_jax.weights.pretrained import find_pretrained


def get_config(weights: str = "efficientnet_lite0"):
    config = base_config()
    pretrained = find_pretrained(weights)
    pretrained.apply_preprocessing(config)
    config.finetune.weights = pretrained.name
    config.finetune.mode = "full"
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
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1 * 0.1 * config.batch_size / 256  # Goyal et al. 2017
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epochs"

    config.eval.every = "1 epochs"
    config.eval.patience = 5
    config.eval.report = "best"
    config.checkpoint.every = "1 epochs"
    return config
