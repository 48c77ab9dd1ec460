"""NFNet F0 to F3: no normalisation, adaptive gradient clipping, strong augmentation.

Command:   python launch.py --config=nfnet:f0 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU; on less than its memory raise accumulate.
Deviation: RandAugment comes before mixing, theirs after it; half of the images are mixed from
           neighbours by mixup and half by CutMix in turns, theirs in blocks; evaluation resizes the
           short side to 32 pixels more than the crop, theirs squeezes both sides to that, and does
           not cut off levels beyond 0 to 255 of bicubic interpolation; GELU is exact, theirs the
           tanh approximation; a branch that stochastic depth keeps is scaled up, theirs is not, and
           the rate rises to 0.25 at the last block, theirs would at the one after it; 1e-5 is added
           to the variance of kernels, theirs is at least 1e-4 over their size; squeeze-and-excite
           starts from N(0, 2 / outputs), theirs from N(0, 1 / inputs); the head is computed in
           float32, theirs in bfloat16, and its bias is not clipped either; random crops as
           torchvision draws them (uniform area, log-uniform ratio), theirs as TensorFlow does; a
           JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
Note:      two photos make an image, each used once: 8192 are read for 4096 images of an update, and
           the 360 epochs, counted by images, are 720 of photos.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "arXiv 2102.06171; google-deepmind/deepmind-research 68a1754d nfnets"
RECIPES = {
    "f0": Published(83.6, SOURCE, spread="of the paper, as benjs/nfnets_pytorch quotes it"),
    "f1": Published(84.7, SOURCE, spread="of the paper, as benjs/nfnets_pytorch quotes it"),
    "f2": Published(85.1, SOURCE, spread="of the paper, as benjs/nfnets_pytorch quotes it"),
    "f3": Published(85.7, SOURCE, spread="of the paper, as benjs/nfnets_pytorch quotes it"),
}
# Pixels of training and of evaluation, level of RandAugment.
SIZES = {"f0": (192, 256, 5), "f1": (224, 320, 10), "f2": (256, 352, 10), "f3": (320, 416, 15)}


def get_config(variant="f0"):
    train, evaluated, level = SIZES[variant]
    config = imagenet_config(f"nfnet_{variant}")
    config.batch_size = 8192
    config.duration = "720 epochs"
    config.ema_decay = 0.99999
    config.model.drop_path = 0.25
    config.data.train_size = train
    config.data.image_size = evaluated
    config.data.eval_resize = evaluated + 32
    config.data.resize_method = "bicubic"
    config.data.resize_antialias = False
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 4
    config.data.policy_magnitude = level
    config.augment.mixup = 0.2
    config.augment.cutmix = 1.0
    config.augment.mix_per = "half"
    config.augment.switch_halves = True
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 1.6  # 0.1 per 256 images
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.agc = 0.01
    config.optim.weight_decay = 2e-5
    config.optim.decayed = ("kernel$",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "10 epochs"
    return config
