"""Embeddings of digits: learnt on 0 to 6, verified on 7 to 9, which it has never seen.

Command:   python launch.py --config=verify_digits
           python launch.py --config=verify_digits:arcface
Hardware:  2 CPU cores of a virtual machine, beside other work: 77 and 83 seconds.
Accuracy:  77.2 % +- 2.6 % with triplets, 76.1 % +- 2.7 % with ArcFace (ten folds, one run each).
           That is no better than the cosine of the pixels, 76.7 %: seven classes are too few to
           learn from what makes any two shapes the same. Verified on all ten digits, trained on
           all ten (data.held_out_classes = (), embedding.turns = 1), it gets 98.2 % and 99.4 %.
"""

from imagenet_jax.config import base_config


def get_config(loss: str = "triplet"):
    config = base_config()
    config.task = "embedding"
    config.batch_size = 168
    config.duration = "200 steps" if loss == "arcface" else "500 steps"
    config.model.name = "resnet20"
    config.model.dtype = "float32"
    config.model.bn_group_size = 0
    config.data.name = "digits"
    config.data.eval_split = "test"
    config.data.held_out_classes = ("7..9",)
    config.data.per_class = 24
    config.data.image_size = 8
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.cache = True
    config.augment.flip = False
    config.augment.pad = 1
    config.augment.mean = (0.305, 0.305, 0.305)
    config.augment.std = (0.376, 0.376, 0.376)
    config.embedding.loss = loss
    config.embedding.norm = loss == "arcface"
    config.embedding.size = 64
    config.embedding.turns = 8
    config.embedding.scale = 16.0
    config.optim.learning_rate = 0.1
    config.optim.weight_decay = 5e-4
    config.schedule.warmup = "10 percent"
    config.eval.batch_size = 360
    config.eval.every = "20 percent"
    config.checkpoint.every = "20 percent"
    config.log.every = "50 steps"
    return config
