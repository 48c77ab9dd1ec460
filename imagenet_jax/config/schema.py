"""The schema of a run: every field with its type, unit, default, meaning and allowed values."""

import re

from imagenet_jax.config.data_fields import DATA
from imagenet_jax.config.durations import is_duration
from imagenet_jax.config.field import Field, choice, duration, is_pattern, number, share
from imagenet_jax.config.model_fields import MODEL

# Kind of device or None, name and value of one of config.compiler_options.
COMPILER_OPTION = re.compile(r"(?:([^:=]+): *)?([a-z]\w*)=(.+)")
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
    "accumulate": number(1, "micro-batches whose gradients are summed into one update", 1),
    "ema_decay": share(0.0, "decay of the averaged weights that are evaluated; 0: none"),
    "partitioner": choice(
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
    **MODEL,
    **DATA,
    "finetune.weights": Field(
        "",
        "what training starts from: pretrained weights (resnet50, resnet50.tv_in1k), a .pth, "
        ".safetensors or .npz file, the workdir of a run, or '': random",
    ),
    "finetune.mode": choice(
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
    "finetune.lora_rank": number(8, "lora: rank of the changes", 1),
    "finetune.lora_alpha": number(16.0, "lora: scale of the changes times their rank", 0),
    "loss.label_smoothing": number(
        0.1, "share of the target spread over all classes; multilabel: that becomes one half", 0, 1
    ),
    "loss.auxiliary": number(
        0.3, "weight of the loss of each auxiliary head (GoogLeNet, Inception v3)", 0
    ),
    "loss.class_reduction": choice(
        "mean", ("mean", "sum"), "multilabel: the loss of an image over its classes"
    ),
    "loss.target_threshold": number(
        0.0,
        "multilabel: labels of mixed images above it count as 1, others as 0; 0: as mixed",
        0,
        1,
    ),
    "optim.name": choice("sgd", ("sgd", "adamw"), "the optimizer"),
    "optim.learning_rate": number(0.1, "peak learning rate for this batch_size", 0),
    "optim.momentum": share(0.9, "sgd: momentum"),
    "optim.nesterov": Field(True, "sgd: Nesterov's form of the momentum"),
    "optim.b1": share(0.9, "adamw: decay of the first moment"),
    "optim.b2": share(0.999, "adamw: decay of the second moment"),
    "optim.eps": number(1e-8, "adamw: added to the root of the second moment", 0),
    "optim.momentum_dtype": choice(
        "float32",
        ("float32", "bfloat16"),
        "in which the momentum, adamw: the first moment, is kept",
    ),
    "optim.weight_decay": number(
        1e-4, "sgd: added to the gradient (L2); adamw: decoupled, times the learning rate", 0
    ),
    "optim.decayed": Field(
        ("kernel$", "lora_[ab]$"),
        "which parameters decay: patterns (regular expressions) of their paths, as "
        "'layer1.0/conv1/kernel'; no norms, biases, position embeddings, tokens, gains",
        "regular expressions, as in ('kernel$',)",
        lambda v: all(isinstance(p, str) and is_pattern(p) for p in v),
    ),
    "optim.decay_norm_and_bias": Field(False, "decay all parameters, whatever optim.decayed says"),
    "optim.clip_norm": number(0.0, "largest global norm of the gradient; 0: any", 0),
    "schedule.name": choice(
        "cosine", ("cosine", "linear", "step", "constant"), "course of the rate after warmup"
    ),
    "schedule.warmup": duration("0 steps", "linear rise from 0 to the peak"),
    "schedule.boundaries": Field(
        (),
        "step: when the rate is multiplied by schedule.factor, counted from the start",
        "durations, as in ('30 epochs', '60 epochs')",
        lambda v: all(is_duration(d) for d in v),
    ),
    "schedule.factor": number(0.1, "step: the factor", 0, 1),
    "schedule.end": number(0.0, "cosine, linear: last rate as a share of the peak", 0, 1),
    "eval.batch_size": number(256, "most images per evaluation step, over all devices", 1),
    "eval.every": duration("1 epochs", "evaluation during training", empty=True),
    "eval.patience": number(
        0, "stop after so many evaluations without a better result; 0: never", 0
    ),
    "eval.report": choice(
        "last",
        ("last", "best"),
        "which checkpoint the summary is of; best: by top1, mAP, ... of the task",
    ),
    "eval.suites": Field(
        (),
        "other sets that a classifier of ImageNet is evaluated on each time: real, v2, a, r, "
        "sketch, c, objectnet, ...; see suites/table.py",
        "NAME or NAME=folder:PATH each, as in ('v2', 'a=folder:/data/imagenet-a')",
        lambda v: all(isinstance(name, str) for name in v),
    ),
    "checkpoint.every": duration("1 epochs", "saving during training; the end is always saved"),
    "checkpoint.keep": number(2, "latest checkpoints kept, beside the best", 1),
    "hang_timeout": number(
        1800.0, "seconds without a step, evaluation batch or checkpoint that end a run; 0: never", 0
    ),
    "log.every": duration("50 steps", "training metrics fetched from the devices and written"),
    "log.tensorboard": Field(True, "write TensorBoard files with clu (imports TensorFlow)"),
    "log.wandb": Field("", "a project of Weights & Biases to log to as well; '': none"),
    "log.mlflow": Field("", "an experiment of MLflow to log to as well; '': none"),
    "log.profile_steps": number(0, "steps traced by the profiler early on; 0: none", 0),
}
