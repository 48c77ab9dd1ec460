"""What a study draws: the roofline, time by layer, scaling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.reports.writers import replace_figure
from imagenet_jax.study.chips import Chip
from imagenet_jax.study.operations import PHASES, Operation


def _figure(width: float, height: float) -> tuple[Any, Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    return pyplot, figure, axes


def plot_roofline(
    operations: Sequence[Operation], chip: Chip, facts: dict[str, Any], path: Path
) -> None:
    """A dot per operation, its area its share of the step, under the roof of the chip."""
    shown = [op for op in operations if op.seconds > 0 and op.bytes + op.flops > 0]
    total = sum(op.seconds for op in shown)
    pyplot, figure, axes = _figure(8, 5)
    ridge = chip.flops / chip.hbm_bandwidth
    least = 0.1
    intensity = np.geomspace(least, 10 * ridge, 200)
    roof = np.minimum(chip.flops, intensity * chip.hbm_bandwidth)
    axes.plot(intensity, roof / 1e12, color="0.3", label=f"{chip.name}: peak and memory")
    for phase in PHASES:
        chosen = [op for op in shown if op.phase == phase]
        if chosen:
            # Work in scratch memory only is drawn at the right edge. Work without products is
            # drawn at the left edge, at the speed of its memory traffic.
            x = [np.clip(op.flops / max(op.bytes, 1), least, intensity[-1]) for op in chosen]
            y = [max(op.flops, least * op.bytes) / op.seconds / 1e12 for op in chosen]
            area = [4000 * op.seconds / total for op in chosen]
            axes.scatter(x, y, area, alpha=0.5, label=phase, color=f"C{PHASES.index(phase)}")
    axes.set(xscale="log", yscale="log", ylim=(roof[0] / 1e14, chip.flops / 2e11))
    axes.set_xlabel(
        "FLOPs per byte of HBM (left edge: no products, drawn as 0.1; right: in scratch memory)"
    )
    axes.set_ylabel("TFLOP/s")
    axes.set_title(_title(facts))
    legend = axes.legend(loc="lower right")
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([30])
    replace_figure(path, figure)
    pyplot.close(figure)


def plot_layers(facts: dict[str, Any], path: Path) -> None:
    """A bar per layer of the model, in the order of the forward pass, and one per other phase."""
    bars = {name: sums["seconds"] for name, sums in facts["layers"].items()}
    inside = sum(bars.values())
    rest = sum(sums["seconds"] for sums in facts["phases"].values()) - inside
    bars["(outside the model)"] = rest
    bars["(collectives)"] = facts["collective_seconds"]
    pyplot, figure, axes = _figure(8, 1.2 + 0.22 * len(bars))
    axes.barh(list(bars), [1e3 * seconds for seconds in bars.values()], color="C0")
    axes.invert_yaxis()
    axes.set_xlabel("predicted ms a step, forward and backward")
    axes.set_title(_title(facts))
    replace_figure(path, figure)
    pyplot.close(figure)


def plot_scaling(variants: Sequence[dict[str, Any]], path: Path) -> None:
    """Images/s over the number of devices, with the line of perfect scaling."""
    pyplot, figure, axes = _figure(8, 4.5)
    kinds = dict.fromkeys((v["chip"], v["partitioner"]) for v in variants)
    for number, kind in enumerate(kinds):
        chosen = [v for v in variants if (v["chip"], v["partitioner"]) == kind]
        chosen.sort(key=lambda v: v["num_devices"])
        devices = np.array([v["num_devices"] for v in chosen])
        speed = [v["predicted_images_per_second"] for v in chosen]
        axes.plot(devices, speed, "o-", color=f"C{number}", label=" ".join(kind))
        axes.plot(devices, speed[0] * devices / devices[0], ":", color=f"C{number}")
    axes.set(xscale="log", yscale="log", xlabel="devices", ylabel="predicted images/s")
    batches = sorted({v["batch_per_device"] for v in variants}, reverse=True)
    axes.set_title(f"{variants[0]['model']}, {', '.join(map(str, batches))} images a device")
    axes.legend(title="dotted: perfect")
    replace_figure(path, figure)
    pyplot.close(figure)


def _title(facts: dict[str, Any]) -> str:
    return (
        f"{facts['model']}, {facts['batch_per_device']} images on each of "
        f"{facts['num_devices']} x {facts['chip']}, {facts['partitioner']}:\n"
        f"{1e3 * facts['predicted_step_seconds']:.1f} ms a step predicted"
    )
