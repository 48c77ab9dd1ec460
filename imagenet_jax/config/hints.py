"""Which field is meant by a name that is none: what other programs call it, or a slip."""

import difflib

from imagenet_jax.config.schema import SCHEMA

# As the command lines of timm, torchvision, ultralytics, Keras and Lightning have it: the field,
# and how its value is written if not as it stands.
_ELSEWHERE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "n_epochs"), ("duration", "{} epochs")),
    **dict.fromkeys(("steps", "max_steps", "num_steps", "iterations"), ("duration", "{} steps")),
    **dict.fromkeys(("warmup_epochs", "lr_warmup_epochs"), ("schedule.warmup", "{} epochs")),
    **dict.fromkeys(("warmup_steps", "num_warmup_steps"), ("schedule.warmup", "{} steps")),
    **dict.fromkeys(("lr", "lr0", "base_lr", "rate"), ("optim.learning_rate", "{}")),
    **dict.fromkeys(("wd", "decay"), ("optim.weight_decay", "{}")),
    **dict.fromkeys(("b", "bs", "batch", "train_batch_size"), ("batch_size", "{}")),
    **dict.fromkeys(("arch", "model", "net", "network", "backbone"), ("model.name", "{}")),
    **dict.fromkeys(("data", "dataset", "data_name"), ("data.name", "{}")),
    **dict.fromkeys(("data_dir", "data_path", "datadir"), ("data.name", "folder:{}")),
    **dict.fromkeys(
        ("imgsz", "img_size", "size", "resolution", "input_size", "crop_size", "train_crop_size"),
        ("data.image_size", "{}"),
    ),
    **dict.fromkeys(("j", "num_workers"), ("data.workers", "{}")),
    **dict.fromkeys(("opt", "optimizer"), ("optim.name", "{}")),
    **dict.fromkeys(("sched", "scheduler", "lr_scheduler"), ("schedule.name", "{}")),
    **dict.fromkeys(("cooldown_epochs",), ("schedule.cooldown", "{} epochs")),
    **dict.fromkeys(("decay_epochs", "lr_step_size"), ("schedule.timescale", "{} epochs")),
    **dict.fromkeys(("decay_rate", "lr_gamma", "gamma"), ("schedule.factor", "{}")),
    **dict.fromkeys(("rho", "sam_rho"), ("optim.sam", "{}")),
    **dict.fromkeys(("smoothing", "ls"), ("loss.label_smoothing", "{}")),
    **dict.fromkeys(("precision", "amp", "half", "fp16", "bf16"), ("model.dtype", "bfloat16")),
    **dict.fromkeys(("drop", "drop_rate"), ("model.dropout", "{}")),
    **dict.fromkeys(("ema", "model_ema_decay"), ("ema_decay", "{}")),
    **dict.fromkeys(("model_ema_steps",), ("ema_every", "{}")),
    **dict.fromkeys(("swa", "swa_epoch_start"), ("swa_start", "{} epochs")),
    **dict.fromkeys(("grad_clip", "clip_grad", "clip_grad_norm"), ("optim.clip_norm", "{}")),
    **dict.fromkeys(("accum", "grad_accum_steps", "accumulate_grad_batches"), ("accumulate", "{}")),
    **dict.fromkeys(("weights", "pretrained", "checkpoint_path"), ("finetune.weights", "{}")),
}


def likely_fields(name: str) -> list[str]:
    """The fields that are probably meant by "optim.lr" or "batch-size", the likeliest first."""
    return [field for field, _ in _candidates(name)]


def likely_flag(argument: str) -> str:
    """What was probably meant by a flag that there is not, as to be typed; '' without an idea.

    Args:
      argument: as in "--epochs=3".
    """
    name, _, value = argument.partition("=")
    for field, form in _candidates(name)[:1]:
        text = f"--config.{field}={form.format(value or 'VALUE')}"
        return f"'{text}'" if set(text) & set(" \t;&|<>()$`*?") else text
    return ""


def _candidates(name: str) -> list[tuple[str, str]]:
    """Fields and the forms of their values."""
    name = name.strip("-").removeprefix("config.").replace("-", "_").lower()
    last = name.rpartition(".")[2]
    if name in SCHEMA:
        return [(name, "{}")]
    found = [_ELSEWHERE[last]] if last in _ELSEWHERE else []
    found += [(field, "{}") for field in SCHEMA if field.rpartition(".")[2] == last]
    near = difflib.get_close_matches(name, SCHEMA, n=1)
    # A slip in the last part, whatever section it stands in.
    ends = {field.rpartition(".")[2]: field for field in SCHEMA}
    near += [ends[end] for end in difflib.get_close_matches(last, ends, n=1, cutoff=0.7)]
    return list(dict.fromkeys([*found, *((field, "{}") for field in near)]))
