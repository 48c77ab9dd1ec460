"""MLP-Mixer B/16 on ImageNet alone, for 300 epochs or 60.

Command:   python launch.py --config=big_vision_mixer:300 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  TPU v3-128 for 2 h 11 min (27 min for 60 epochs); on less raise accumulate.
Deviation: activations in bfloat16, theirs in float32 (products in bfloat16 on a TPU); random crops
           as torchvision draws them (uniform area, log-uniform ratio), theirs as TensorFlow does; a
           JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft); mixup within
           pairs of neighbours, theirs with the image before in the batch; a branch that stochastic
           depth keeps is scaled up, theirs is not.
"""

from imagenet_jax.config.recipe import Published, big_vision_images, imagenet_config

SOURCE = "arXiv 2105.01601; google-research/big_vision 0127fb6b configs/mlp_mixer_i1k.py"
RECIPES = {
    "300": Published(76.3, SOURCE, hardware="TPU v3-128, 2 h 11 min"),
    "60": Published(70.5, SOURCE, hardware="TPU v3-128, 27 min"),
}


def get_config(variant="300"):
    config = imagenet_config("mixer_b16")
    config.batch_size = 4096
    config.duration = f"{variant} epochs"
    config.model.drop_path = 0.1
    config.model.tanh_gelu = True
    config.model.fast_variance = True
    config.model.head_bias = -6.9
    big_vision_images(config)
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 15
    config.augment.mixup = 0.5
    config.augment.mix_per = "batch"
    config.loss.name = "sigmoid"
    config.loss.class_reduction = "sum"
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.eps = 1e-8
    config.optim.decay_coupling = "schedule"
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0
    config.schedule.name = "linear"
    config.schedule.warmup = "10000 steps"
    config.schedule.end = 1e-5  # of the peak
    return config
