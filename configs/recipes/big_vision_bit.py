"""BiT ResNet-50x1, GroupNorm and standardised kernels, trained on ImageNet alone.

Command:   python launch.py --config=big_vision_bit:r50x1 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  TPU v3-128 for 32 minutes; on less raise accumulate.
Deviation: the network is the paper's, with norms before convolutions, whose pre-trained weights
           fit; theirs has them behind, and the last of a branch starts at 0. Activations in
           bfloat16, theirs in float32 (products in bfloat16 on a TPU); random crops as torchvision
           draws them (uniform area, log-uniform ratio), theirs as TensorFlow does; a JPEG's crop
           may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, big_vision_images, imagenet_config

SOURCE = "arXiv 1912.11370; google-research/big_vision 0127fb6b configs/bit_i1k.py"
RECIPES = {"r50x1": Published(None, SOURCE, hardware="TPU v3-128, 32 min")}


def get_config(variant="r50x1"):
    config = imagenet_config(f"bit_{variant}")
    config.batch_size = 4096
    config.duration = "90 epochs"
    big_vision_images(config)
    config.optim.name = "sgd"
    config.optim.learning_rate = 1.6  # 0.1 per 256 images
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.momentum_dtype = "bfloat16"
    config.optim.decay_coupling = "schedule"
    config.optim.weight_decay = 1.6e-3  # 1e-4 per 256 images
    config.optim.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "1000 steps"
    return config
