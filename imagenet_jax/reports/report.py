"""What a summary holds, and the table at the end of a verb."""

from collections.abc import Mapping
from typing import Any

import jax
import ml_collections


def run_facts(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What a summary says of model, data and devices."""
    return {
        "task": config.task,
        "model": config.model.name,
        "dataset": config.data.name,
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }


def summary_table(summary: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """The facts of a summary, a line each, with units; `metrics` are the lines of its task."""
    result = summary["eval"]
    rows = {
        "model": summary["model"],
        "dataset": f"{summary['dataset']}, split {result['split']}",
        **({"step": f"{summary['step']:,}"} if "step" in summary else {}),
        **metrics,
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
            f"{summary['num_processes']} process(es)",
            "state sha256": summary["state_sha256"][:16],
        }
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())
