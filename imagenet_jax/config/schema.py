"""The schema of a run: every field with its type, unit, default, meaning and allowed values."""

import re

from imagenet_jax.config.data_fields import DATA
from imagenet_jax.config.durations import is_duration
from imagenet_jax.config.embedding_fields import EMBEDDING
from imagenet_jax.config.feature_fields import FEATURES
from imagenet_jax.config.field import Field, choice, duration, number, period, share
from imagenet_jax.config.loss_fields import DISTILL, LOSS, MULTI_TASK
from imagenet_jax.config.mae_fields import MAE
from imagenet_jax.config.model_fields import MODEL
from imagenet_jax.config.optim_fields import OPTIM, SCHEDULE
from imagenet_jax.config.pretrain_fields import PRETRAIN
from imagenet_jax.config.prune_fields import PRUNE
from imagenet_jax.config.semi_fields import LABELLED, SEMI

# Kind of device or None, name and value of one of config.compiler_options.
COMPILER_OPTION = re.compile(r"(?:([^:=]+): *)?([a-z]\w*)=(.+)")
# What the fields before the dot are about; those without a dot are of the run as a whole.
SECTIONS: dict[str, str] = {
    "": "The run",
    "model": "The network",
    "data": "The data set, and what the host does to an image",
    "augment": "Augmentation in the compiled step, and normalisation",
    "finetune": "Starting from trained weights",
    "loss": "The loss",
    "distill": "Learning from a teacher",
    "multi_task": "Several tasks at once",
    "embedding": "Metric learning and verification",
    "pretrain": "Learning without labels",
    "mae": "Masked autoencoders",
    "semi": "Learning with few labels",
    "optim": "The optimizer",
    "schedule": "The learning rate over time",
    "prune": "Weights that become zero",
    "eval": "Evaluation",
    "checkpoint": "Checkpoints",
    "log": "Metrics and where they go",
}
_PART = r"(data_parallel|fsdp|tensor_parallel)(=[1-9][0-9]{0,8})?"

SCHEMA: dict[str, Field] = {
    "task": Field(
        "classification", "what is learnt", "the name of a file in tasks/", str.isidentifier
    ),
    "seed": number(0, "seed of initialisation, order and augmentation", 0, 2**31 - 1),
    "batch_size": number(256, "images per optimizer update, over all devices", 1),
    "duration": Field(
        "90 epochs",
        "length of the run; rounded to whole steps",
        "a number and one of steps, epochs, examples, as in '90 epochs'",
        lambda v: is_duration(v) and "percent" not in v and "%" not in v,
    ),
    "stages": Field(
        (),
        "what changes on the way, each beside what the stages before have changed: fields of "
        "augment and loss, data.train_size, data.policy and others; see config/stages.py",
        "'START: FIELD=VALUE FIELD=VALUE' each, as in "
        "('16 epochs: data.train_size=192 data.policy_magnitude=9',)",
        lambda v: all(isinstance(stage, str) for stage in v),
    ),
    "accumulate": number(1, "micro-batches whose gradients are summed into one update", 1),
    "ema_decay": share(
        0.0,
        "decay of the averaged weights that are evaluated, see eval.weights; of a half-life of h "
        "steps 0.5 ** (ema_every / h); 0: none",
    ),
    "ema_every": number(1, "steps from one move of the averaged weights to the next", 1),
    "ema_ramp": choice(
        "tensorflow",
        ("tensorflow", "timm", "none", "cosine"),
        "what the decay is at most at the n-th move: n / (9 + n), as in TensorFlow; "
        "1 - n ** (-2 / 3); or ema_decay from the beginning (torchvision, composer); cosine: from "
        "ema_decay to 1 at the end of the run (BYOL, DINO)",
    ),
    "ema_start": duration(
        "", "copies in place of averages, up to the first move at or after it", empty=True
    ),
    "swa_start": duration(
        "",
        "in place of ema_decay: from the first move at or after it on, the equal average of the "
        "weights at all moves (SWA); see eval.norm_batches",
        empty=True,
    ),
    "partitioner": choice(
        "jit", ("jit", "shard_map", "pmap"), "how the step is spread over the devices"
    ),
    "sharding": Field(
        "data_parallel",
        "what is spread over the devices beside the batch: nothing; fsdp: parameters and "
        "optimizer; tensor_parallel: the layers of transformers, and the directions of classes of "
        "embeddings; see docs/scale-out.md",
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
    **MODEL,
    **DATA,
    **LABELLED,
    "finetune.weights": Field(
        "",
        "what training starts from: pretrained weights (resnet50, resnet50.tv_in1k), a .pth, "
        ".safetensors or .npz file, the workdir of a run, or '': random",
    ),
    "finetune.mode": choice(
        "full",
        ("full", "head", "layerwise", "lora"),
        "what is trained: all; the last layer only; all, blocks far from it less; low-rank changes "
        "of the attention; see docs/fine-tuning.md",
    ),
    "finetune.layer_decay": Field(
        0.75,
        "layerwise: factor of the learning rate from a block to the one before it",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "finetune.layer_groups": number(
        12,
        "layerwise, but not of transformers: into how many groups of one rate the blocks go, as in "
        "ConvNeXt; 0: each is one, ConvNeXt V2's 'single'",
        0,
    ),
    "finetune.lora_rank": number(8, "lora: rank of the changes", 1),
    "finetune.lora_alpha": number(16.0, "lora: scale of the changes times their rank", 0),
    **LOSS,
    **DISTILL,
    **MULTI_TASK,
    **EMBEDDING,
    **PRETRAIN,
    **MAE,
    **SEMI,
    **OPTIM,
    **SCHEDULE,
    **PRUNE,
    "eval.batch_size": number(256, "most images per evaluation step, over all devices", 1),
    "eval.every": period("1 epochs", "evaluation during training", empty=True),
    "eval.patience": number(
        0, "stop after so many evaluations without a better result; 0: never", 0
    ),
    "eval.report": choice(
        "last",
        ("last", "best"),
        "which checkpoint the summary is of; best: by top1, mAP, ... of the task",
    ),
    "eval.weights": choice(
        "averaged",
        ("averaged", "raw", "both"),
        "which are evaluated where a run averages them; raw: those of the step; both: these as "
        "eval_raw/... beside the average",
    ),
    "eval.norm_batches": number(
        0,
        "batches of training images, augmented as there, from which BatchNorm's statistics are "
        "estimated for the averaged weights before they are evaluated; 0: averaged like them",
        0,
    ),
    "eval.tta": choice(
        "",
        ("", "mirror", "mirror_shift"),
        "test-time augmentation of classes. mirror: the mean of the logits of an image and its "
        "mirror image (FFCV); mirror_shift: half of that, and a quarter each of the same for the "
        "image shifted by a pixel to the lower right and to the upper left (airbench)",
    ),
    "eval.scales": Field(
        (1.0,),
        "detection, segmentation: test-time augmentation, factors of image_size; the images are "
        "shown resized to each, to multiples of 32 pixels, and what is found is put together",
        "one or more numbers of 0.25 to 4, none of them twice",
        lambda v: v and len({*v}) == len(v) and all(0.25 <= float(factor) <= 4 for factor in v),
    ),
    "eval.score_threshold": Field(
        -1.0,
        "detection: boxes of no higher score are not told; -1: the detector's own, 0.05 or 0.2",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "eval.nms_threshold": Field(
        -1.0,
        "detection: of boxes of a class that overlap by a higher IoU the best is told; -1: the "
        "detector's own, 0.5 or 0.6",
        "-1, or above 0 to 1",
        lambda v: v == -1 or 0 < v <= 1,
    ),
    "eval.candidates": number(
        1000, "detection: boxes of each map that compete in that, the best ones", 1, 10**5
    ),
    "eval.max_detections": number(
        0, "detection: boxes told of an image; 0: the detector's own, 300 or 100", 0, 10**4
    ),
    "eval.suites": Field(
        (),
        "other sets that a classifier of ImageNet is evaluated on each time: real, v2, a, r, "
        "sketch, c, objectnet, ...; see suites/table.py",
        "NAME or NAME=folder:PATH each, as in ('v2', 'a=folder:/data/imagenet-a')",
        lambda v: all(isinstance(name, str) for name in v),
    ),
    **FEATURES,
    "checkpoint.every": period("1 epochs", "saving during training; the end is always saved"),
    "checkpoint.keep": number(2, "latest checkpoints kept, beside the best", 1),
    "checkpoint.keep_best": number(1, "best checkpoints kept, as for an average of them", 1),
    "hang_timeout": number(
        1800.0, "seconds without a step, evaluation batch or checkpoint that end a run; 0: never", 0
    ),
    "log.every": period("50 steps", "training metrics fetched from the devices and written"),
    "log.norms": Field(
        False,
        "log train/gradient_norm (before any clipping) and train/update_norm, over all trained "
        "parameters; costs little",
    ),
    "log.tensorboard": Field(True, "write TensorBoard files with clu (imports TensorFlow)"),
    "log.wandb": Field("", "a project of Weights & Biases to log to as well; '': none"),
    "log.mlflow": Field("", "an experiment of MLflow to log to as well; '': none"),
    "log.profile_steps": number(0, "steps traced by the profiler early on; 0: none", 0),
}
