"""The schema of a run: every field with its type, unit, default, meaning and allowed values."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from imagenet_jax.config.durations import is_duration


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `default` gives the type, `meaning` the unit, `allowed` says what is possible."""

    default: Any
    meaning: str
    allowed: str = ""
    test: Callable[[Any], bool] = lambda value: True


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Field:
    shown = ", ".join(choice or "''" for choice in choices)
    return Field(default, meaning, f"one of {shown}", lambda v: v in choices)


def _number(default: float, meaning: str, low: float, high: float = math.inf) -> Field:
    allowed = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    return Field(default, meaning, allowed, lambda v: low <= v <= high)


def _duration(default: str, meaning: str, empty: bool = False) -> Field:
    allowed = "a number and one of steps, epochs, examples, percent, as in '5 epochs'"
    if empty:
        allowed += ", or '' for never"
    return Field(default, meaning, allowed, lambda v: (empty and v == "") or is_duration(v))


def _range(default: tuple[float, float], meaning: str, most: float = math.inf) -> Field:
    allowed = "two numbers, 0 < low <= high" + ("" if most == math.inf else f" <= {most:g}")
    return Field(default, meaning, allowed, lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= most)


# Kind of device or None, name and value of one of config.compiler_options.
COMPILER_OPTION = re.compile(r"(?:([^:=]+): *)?([a-z]\w*)=(.+)")
_PART = r"(data_parallel|fsdp|tensor_parallel)(=[1-9]\d*)?"
CROPS = ("center_crop", "resize_center_crop", "resize", "none")

SCHEMA: dict[str, Field] = {
    "task": Field(
        "classification", "what is learnt", "the name of a file in tasks/", str.isidentifier
    ),
    "seed": _number(0, "seed of initialisation, order and augmentation", 0, 2**31 - 1),
    "batch_size": _number(256, "images per optimizer update, over all devices", 1),
    "duration": Field(
        "90 epochs",
        "length of the run; rounded to whole steps",
        "a number and one of steps, epochs, examples, as in '90 epochs'",
        lambda v: is_duration(v) and "percent" not in v and "%" not in v,
    ),
    "accumulate": _number(1, "micro-batches whose gradients are summed into one update", 1),
    "ema_decay": _number(0.0, "decay of the averaged weights that are evaluated; 0: none", 0, 1),
    "partitioner": _choice(
        "jit", ("jit", "shard_map", "pmap"), "how the step is spread over the devices"
    ),
    "sharding": Field(
        "data_parallel",
        "what is spread over the devices beside the batch: nothing; fsdp: parameters and "
        "optimizer; tensor_parallel: the layers of transformers; see sharding.py",
        "data_parallel, fsdp, tensor_parallel or several with numbers of devices, as in "
        "'fsdp=4,tensor_parallel=2'",
        lambda v: re.fullmatch(rf"{_PART}(, *{_PART})*", v) is not None,
    ),
    "compiler_options": Field(
        (),
        "options of XLA's for the compiled steps; those that begin with xla_tpu_, xla_gpu_ or "
        "xla_cpu_ count on that platform only, those after a kind of device on that kind only",
        "NAME=VALUE or DEVICE_KIND: NAME=VALUE each, as in "
        "('TPU v5 lite: xla_tpu_scoped_vmem_limit_kib=32768',)",
        lambda v: all(COMPILER_OPTION.fullmatch(option) for option in v),
    ),
    "model.name": Field("resnet50", "a name of the table of models"),
    "model.width": _number(0, "channels of the first stage; 0: the model's own", 0),
    "model.stem": _choice(
        "",
        ("", "imagenet", "cifar", "cifar_half"),
        "7x7 stride 2 with max-pool, 3x3 stride 1, or 4x4 stride 2; '': the model's own",
    ),
    "model.dtype": _choice(
        "bfloat16",
        ("float32", "bfloat16"),
        "dtype of the computation; float32 in the backend's default precision",
    ),
    "model.zero_init_residual": Field(True, "ResNets: residual branches start at zero"),
    "model.pool": _choice(
        "", ("", "token", "avg"), "ViTs: what gives the logits; '': the model's own"
    ),
    "model.dropout": Field(
        -1.0,
        "rate of dropout; -1: the model's own",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "model.drop_path": Field(
        -1.0,
        "rate of stochastic depth of the last block; -1: the model's own",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "model.remat": Field(
        False, "compute activations within blocks again in the backward pass: less memory"
    ),
    "model.bn_group_size": _number(
        32, "images that share batch statistics; 0: the whole (micro-)batch", 0
    ),
    "model.scan": Field(False, "ViTs: compile one block in a loop, not all in a row"),
    "model.fused_norm": Field(
        True,
        "ResNets, where a device holds one group: fewer passes over memory, see Layers",
    ),
    "model.tanh_gelu": Field(False, "GELU by the tanh approximation, as Flax's default"),
    "model.fast_variance": Field(
        False, "LayerNorm's variance as E[x^2] - E[x]^2, as Flax's default"
    ),
    "model.bn_momentum": _number(
        0.0, "share of the old running statistics kept; 0: the model's own", 0, 1
    ),
    "model.frozen_norm": Field(
        False, "BatchNorm by the running statistics in training too; it is not trained"
    ),
    "model.output_stride": Field(
        0,
        "ResNets, MobileNet v3: largest stride of a map, convolutions are dilated beyond it; 0: "
        "the model's own",
        "one of 0, 8, 16, 32",
        lambda v: v in (0, 8, 16, 32),
    ),
    "model.bn_epsilon": _number(0.0, "added to the variance; 0: the model's own", 0),
    "data.name": Field(
        "imagenet2012",
        "the name of a TFDS data set, fake, folder:PATH, zip:PATH, csv:PATH or tfrecord:DIR",
    ),
    "data.dir": Field("", "TFDS data directory; '': $TFDS_DATA_DIR or ~/tensorflow_datasets"),
    "data.train_split": Field("train", "split (TFDS) or sub-folder trained on"),
    "data.eval_split": Field("validation", "split (TFDS) or sub-folder evaluated on"),
    "data.folds": Field(
        0,
        "cross-validation: parts of train_split, one of which is evaluated on; 0: none",
        "0 or at least 2",
        lambda v: v == 0 or v >= 2,
    ),
    "data.fold": _number(0, "which of the folds is evaluated on, from 0; trained on the others", 0),
    "data.image_size": _number(224, "height and width in pixels that the model sees", 1),
    "data.train_crop": _choice(
        "random_resized_crop",
        ("random_resized_crop", *CROPS),
        "how training images get to image_size, on the host; see data/preprocess.py",
    ),
    "data.crop_area": _range(
        (0.08, 1.0), "random_resized_crop: range of the share of the image's area", 1
    ),
    "data.crop_ratio": _range((3 / 4, 4 / 3), "random_resized_crop: range of width / height"),
    "data.eval_crop": _choice(
        "center_crop", CROPS, "how evaluation images get to image_size; see data/preprocess.py"
    ),
    "data.eval_crop_fraction": Field(
        0.875,
        "center_crop: side of the crop over the image's short side; resize_center_crop: "
        "image_size over the resized short side",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "data.eval_resize": _number(
        0,
        "resize_center_crop: short side in pixels before the crop; 0: image_size / "
        "eval_crop_fraction, rounded down",
        0,
    ),
    "data.resize_method": _choice(
        "bilinear", ("nearest", "bilinear", "bicubic", "area", "lanczos"), "interpolation"
    ),
    "data.resize_antialias": Field(
        False, "filter before shrinking: Pillow's resize; else OpenCV's, which is faster"
    ),
    "data.draft": Field(
        True,
        "training: decode a JPEG's crop at 1/2, 1/4 or 1/8 of its size where that is no "
        "smaller than image_size",
    ),
    "data.exif_orientation": Field(True, "turn photos upright as their EXIF data say"),
    "data.max_pixels": _number(2**27, "larger images count as unreadable", 1),
    "data.cache": Field(False, "decode the whole data set once and keep it in memory"),
    "data.bad_images": _choice(
        "fail",
        ("fail", "skip"),
        "an image that cannot be read: stop, or name it and go on with weight 0 in its place",
    ),
    "data.max_bad_fraction": _number(
        0.05, "bad_images = skip: largest share of a split's images that may be unreadable", 0, 1
    ),
    "data.rotate": _number(0.0, "training: random rotation by up to this many degrees", 0, 180),
    "data.translate": _number(0.0, "training: random shift by up to this share of a side", 0, 1),
    "data.policy": _choice(
        "",
        (
            *("", "randaugment", "trivialaugment", "augmix"),
            *("autoaugment", "autoaugment_cifar10", "autoaugment_svhn"),
        ),
        "training: augmentation policy on the host; see data/policies.py",
    ),
    "data.policy_ops": _number(2, "randaugment: operations one after the other", 1, 8),
    "data.policy_magnitude": _number(
        9, "randaugment: 0 to 30; augmix: its severity, at most 10", 0, 30
    ),
    "data.repeats": _number(
        1, "training: how often an example comes in its batch, each time augmented anew", 1
    ),
    "data.workers": _number(0, "threads that read and decode; 0: one per CPU core", 0),
    "data.prefetch": _number(2, "batches made ahead by the host", 1),
    "data.fake_train_examples": _number(1281167, "fake: size of the training split", 1),
    "data.fake_eval_examples": _number(50000, "fake: size of the evaluation split", 1),
    "data.fake_classes": _number(1000, "fake: number of classes", 2),
    "augment.flip": Field(True, "mirror half of the training images"),
    "augment.pad": _number(0, "random translation by up to this many pixels", 0),
    "augment.pad_mode": _choice("constant", ("constant", "reflect"), "what is shifted in"),
    "augment.brightness": _number(0.0, "colour jitter: range of the factor around 1", 0),
    "augment.contrast": _number(0.0, "colour jitter: range of the factor around 1", 0),
    "augment.saturation": _number(0.0, "colour jitter: range of the factor around 1", 0),
    "augment.hue": _number(0.0, "colour jitter: largest turn, as a share of the circle", 0, 0.5),
    "augment.grayscale": _number(0.0, "share of the training images made grey", 0, 1),
    "augment.solarize": _number(0.0, "share whose levels from 128 on are inverted", 0, 1),
    "augment.blur": _number(0.0, "share blurred by a Gaussian", 0, 1),
    "augment.blur_sigma": _range((0.1, 2.0), "range of the Gaussian's sigma in pixels"),
    "augment.noise": _number(0.0, "standard deviation of noise added to RGB in [0, 1]", 0),
    "augment.three_augment": Field(
        False, "grey, solarize or blur, one of them for each image (DeiT III)"
    ),
    "augment.erase": _number(0.0, "share of the training images with a box erased", 0, 1),
    "augment.erase_area": _range((0.02, 0.33), "range of the erased box's share of the image", 1),
    "augment.erase_ratio": _range((0.3, 3.3), "range of the erased box's height / width"),
    "augment.erase_mode": _choice(
        "zero", ("zero", "color", "pixel"), "the mean colour, one random colour, or noise"
    ),
    "augment.mixup": _number(0.0, "alpha of mixup; 0: none", 0),
    "augment.cutmix": _number(0.0, "alpha of CutMix; 0: none", 0),
    "augment.switch_prob": _number(0.5, "share of CutMix where both are on", 0, 1),
    "augment.mix_prob": _number(1.0, "share of the batches or pairs that are mixed", 0, 1),
    "augment.mix_per": _choice("pair", ("pair", "batch"), "what shares one drawn ratio"),
    "augment.mean": Field(
        (0.485, 0.456, 0.406),
        "subtracted from RGB in [0, 1]",
        "three numbers",
        lambda v: len(v) == 3,
    ),
    "augment.std": Field(
        (0.229, 0.224, 0.225),
        "RGB in [0, 1] is divided by it",
        "three numbers above 0",
        lambda v: len(v) == 3 and min(v) > 0,
    ),
    "finetune.weights": Field(
        "",
        "what training starts from: pretrained weights (resnet50, resnet50.tv_in1k), a .pth, "
        ".safetensors or .npz file, the workdir of a run, or '': random",
    ),
    "finetune.mode": _choice(
        "full",
        ("full", "head", "layerwise", "lora"),
        "what is trained: all; the last layer only; all, blocks far from it less; see tuning.py",
    ),
    "finetune.layer_decay": Field(
        0.75,
        "layerwise: factor of the learning rate from a block to the one before it",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "finetune.lora_rank": _number(8, "lora: rank of the changes", 1),
    "finetune.lora_alpha": _number(16.0, "lora: scale of the changes times their rank", 0),
    "loss.label_smoothing": _number(
        0.1, "share of the target spread over all classes; multilabel: that becomes one half", 0, 1
    ),
    "loss.auxiliary": _number(
        0.3, "weight of the loss of each auxiliary head (GoogLeNet, Inception v3)", 0
    ),
    "loss.class_reduction": _choice(
        "mean", ("mean", "sum"), "multilabel: the loss of an image over its classes"
    ),
    "loss.target_threshold": _number(
        0.0,
        "multilabel: labels of mixed images above it count as 1, others as 0; 0: as mixed",
        0,
        1,
    ),
    "optim.name": _choice("sgd", ("sgd", "adamw"), "the optimizer"),
    "optim.learning_rate": _number(0.1, "peak learning rate for this batch_size", 0),
    "optim.momentum": _number(0.9, "sgd: momentum", 0, 1),
    "optim.nesterov": Field(True, "sgd: Nesterov's form of the momentum"),
    "optim.b1": _number(0.9, "adamw: decay of the first moment", 0, 1),
    "optim.b2": _number(0.999, "adamw: decay of the second moment", 0, 1),
    "optim.eps": _number(1e-8, "adamw: added to the root of the second moment", 0),
    "optim.weight_decay": _number(
        1e-4, "sgd: added to the gradient (L2); adamw: decoupled, times the learning rate", 0
    ),
    "optim.decay_norm_and_bias": Field(False, "decay norm scales and biases as well"),
    "optim.clip_norm": _number(0.0, "largest global norm of the gradient; 0: any", 0),
    "schedule.name": _choice(
        "cosine", ("cosine", "linear", "step", "constant"), "course of the rate after warmup"
    ),
    "schedule.warmup": _duration("0 steps", "linear rise from 0 to the peak"),
    "schedule.boundaries": Field(
        (),
        "step: when the rate is multiplied by schedule.factor, counted from the start",
        "durations, as in ('30 epochs', '60 epochs')",
        lambda v: all(is_duration(d) for d in v),
    ),
    "schedule.factor": _number(0.1, "step: the factor", 0, 1),
    "schedule.end": _number(0.0, "cosine, linear: last rate as a share of the peak", 0, 1),
    "eval.batch_size": _number(256, "most images per evaluation step, over all devices", 1),
    "eval.every": _duration("1 epochs", "evaluation during training", empty=True),
    "eval.patience": _number(
        0, "stop after so many evaluations without a better result; 0: never", 0
    ),
    "eval.report": _choice(
        "last",
        ("last", "best"),
        "which checkpoint the summary is of; best: by top1, mAP, ... of the task",
    ),
    "checkpoint.every": _duration("1 epochs", "saving during training; the end is always saved"),
    "checkpoint.keep": _number(2, "latest checkpoints kept, beside the best", 1),
    "hang_timeout": _number(
        1800.0, "seconds without a step, evaluation batch or checkpoint that end a run; 0: never", 0
    ),
    "log.every": _duration("50 steps", "training metrics fetched from the devices and written"),
    "log.tensorboard": Field(True, "write TensorBoard files with clu (imports TensorFlow)"),
    "log.wandb": Field("", "a project of Weights & Biases to log to as well; '': none"),
    "log.mlflow": Field("", "an experiment of MLflow to log to as well; '': none"),
    "log.profile_steps": _number(0, "steps traced by the profiler early on; 0: none", 0),
}
