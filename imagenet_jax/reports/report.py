"""What a summary holds, and the table at the end of a verb."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from PIL import Image

from imagenet_jax.config import network_name
from imagenet_jax.config.stages import config_stages
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.models.layers.quantized import told_of_rounded
from imagenet_jax.terminal import say


def run_facts(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What a summary says of model, data and devices."""
    return {
        "task": config.task,
        "model": network_name(config),
        "dataset": config.data.name,
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }


def say_facts(program: Any, train_split: Any, eval_split: Any) -> None:
    """Says what is going to be trained: a line each on model, data, devices and steps.

    Args:
      program: a `training.program.Program`.
      train_split, eval_split: `data.Split`s.
    """
    config, size = program.config, program.config.data.image_size
    state = program.state_shapes()
    params = jax.eval_shape(program.tuning.merge_lora, state.params)
    variables = {"params": params, "batch_stats": state.batch_stats}
    macs, count = count_macs(program.model, size, variables), count_params(variables)
    rows = {
        "model": f"{network_name(config)}, {count / 1e6:,.3g} M parameters, {_cost(macs)}MACs an "
        f"image of {size} pixels, {config.model.dtype}",
        "data": f"{config.data.name}: {train_split.num_examples:,} images of {train_split.name}, "
        f"{eval_split.num_examples:,} of {eval_split.name} to evaluate on",
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}, "
        f"{_processes(jax.process_count())}",
        "steps": f"{program.total_steps:,} of {config.batch_size:,} images, "
        f"{config.duration.strip()}; an evaluation every {config.eval.every.strip()}",
    }
    if teacher := program.teacher:
        count = count_params(variable_shapes(teacher.model, teacher.image_size))
        macs = count_macs(teacher.model, teacher.image_size)
        rows["teacher"] = f"{teacher.name}, {count / 1e6:,.3g} M parameters, {_cost(macs)}"
        rows["teacher"] += f"MACs an image of {teacher.image_size} pixels"
    if config.model.quantize:
        rows["quantize"] = f"{config.model.quantize}; {told_of_rounded(variables)}"
    for name, value in rows.items():
        say(f"{name:8} {value}")
    for stage in config_stages(config)[1:]:
        say(f"{'stage':8} from {stage.start} on: {stage.changes}")


def _cost(macs: int) -> str:
    return f"{macs / 1e9:,.3g} G" if macs >= 1e8 else f"{macs / 1e6:,.3g} M"


def _processes(count: int) -> str:
    return f"{count} process{'es' * (count > 1)}"


def raw_rows(task: Any, result: Mapping[str, Any] | None) -> dict[str, str]:
    """The rows of a task for the weights that are not averaged; none without such a result."""
    rows = task.rows(result) if result else {}
    return {f"raw {name}": value for name, value in rows.items()}


def pictures_of(report: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The pictures uint8 [H, W, 3] that a `Task.report` has written, by their files' names."""
    files = [name for name in report.get("files", ()) if name.endswith(".png")]
    found = {}
    for name in files:
        with Image.open(Path(report["folder"], name)) as picture:
            found[f"eval/{Path(name).stem}"] = np.asarray(picture.convert("RGB"))
    return found


def summary_table(summary: Mapping[str, Any], task: Any) -> str:
    """The facts of a summary, a line each, with units, and what its task, a class, reports."""
    result = summary["eval"]
    rows = {
        "model": summary["model"],
        "dataset": f"{summary['dataset']}, split {result['split']}",
        **({"step": f"{summary['step']:,}"} if "step" in summary else {}),
        **task.rows(result),
        **raw_rows(task, summary.get("eval_raw")),
    }
    if result["unreadable"]:
        rows["unreadable images"] = f"{result['unreadable']:,}"
    if summary.get("reported_top1"):
        rows["reported"] = f"top-1 {summary['reported_top1']} % on ImageNet's validation set"
    if "images_per_second" in summary:
        rows |= {
            "epochs": f"{summary['epochs']:.4g}",
            "training speed": f"{summary['images_per_second']:,.0f} images/s",
            "waiting for input": f"{summary['input_wait_fraction']:.1%} of training time",
            "compilation": f"{summary['compile_seconds']:.1f} s",
            "first step after": f"{summary['first_step_seconds']:.1f} s",
            "longest stall": f"{summary['longest_stall_seconds']:.2f} s for a checkpoint",
            "wall time": f"{summary['wall_seconds']:.1f} s",
            "devices": f"{summary['num_devices']} x {summary['device_kind']}, "
            f"{_processes(summary['num_processes'])}",
            "state sha256": summary["state_sha256"][:16],
        }
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
    below = task.result_lines(result)
    lines += ["", *below] if below else []
    about_classes = task.report_lines(summary.get("report") or {})
    return "\n".join([*lines, *([""] if about_classes else []), *about_classes])
