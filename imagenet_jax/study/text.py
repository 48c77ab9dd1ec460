"""The result of a study for people."""

from collections.abc import Callable, Sequence
from typing import Any


def study_text(result: dict[str, Any]) -> str:
    """The facts of every variant, then where the time of each goes."""
    if "ratios" in result:
        return comparison_text(result)
    variants = result["variants"]
    lines = [_facts(variants), ""]
    for facts in variants:
        if facts["predicted_step_seconds"] is not None:
            lines += [_where(facts), ""]
    lines.append(f"programs, operations and pictures are in {result['folder']}")
    return "\n".join(lines)


def _facts(variants: Sequence[dict[str, Any]]) -> str:
    """A row per fact, a column per variant."""
    rows = {
        "topology": lambda v: v["topology"],
        "partitioner": lambda v: v["partitioner"],
        "images per device": lambda v: f"{v['batch_per_device']:,}",
        "devices": lambda v: f"{v['num_devices']} x {v['chip']}",
        "compilation": lambda v: f"{v['compile_seconds']:.1f} s",
        "memory, of capacity": _memory,
        "largest batch that fits": _largest_batch,
        "temporary memory": lambda v: f"{v['temporary_bytes'] / 2**30:.2f} GiB",
        "program": lambda v: f"{v['generated_code_bytes'] / 1e6:.0f} MB",
        "GFLOPs per image": lambda v: f"{v['flops_per_image'] / 1e9:.2f}",
        "  of the model": lambda v: f"{v['model_flops_per_image'] / 1e9:.2f}",
        "bytes accessed": lambda v: f"{v['bytes_accessed'] / 1e9:.2f} GB",
        "  in HBM": lambda v: f"{v['hbm_bytes'] / 1e9:.2f} GB",
        "FLOPs per byte of HBM": lambda v: f"{v['arithmetic_intensity']:.0f}",
        "roofline": lambda v: f"{1e3 * v['roofline_seconds']:.2f} ms, {v['bound']} binds",
        "estimated cycles": lambda v: f"{v['estimated_cycles'] / 1e6:.1f} M",
        "fusions, copies": lambda v: f"{v['fusions']:,}, {v['copies']:,}",
        "collectives": lambda v: (
            "; ".join(
                f"{c['count']} {kind}, {c['bytes'] / 1e6:.0f} MB"
                for kind, c in v["collectives"].items()
            )
            or "none"
        ),
        "  their time": lambda v: (
            f"{1e3 * v['collective_seconds']:.2f} ms, "
            f"{v['collective_seconds'] / v['predicted_step_seconds']:.1%}"
        ),
        "PREDICTED step": lambda v: f"{1e3 * v['predicted_step_seconds']:.2f} ms",
        "  images/s per device": lambda v: f"{v['predicted_images_per_second_per_chip']:,.0f}",
        "  images/s": lambda v: f"{v['predicted_images_per_second']:,.0f}",
        "  MFU": lambda v: f"{v['mfu']:.1%}",
    }
    rows |= _measured_rows(variants)
    table = [
        [name.rstrip("."), *[_cell(show, facts) for facts in variants]]
        for name, show in rows.items()
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def _measured_rows(variants: Sequence[dict[str, Any]]) -> dict[str, Callable[..., str]]:
    """Further rows of `_facts`, where a step has run."""
    rows = {}
    if any("measured" in v for v in variants):
        rows |= {
            "MEASURED step": lambda v: _measured(v, "step_seconds", "p10", "p90"),
            "  images/s per device.": lambda v: (
                f"{v['measured']['images_per_second_per_chip']:,.0f}" if "measured" in v else "-"
            ),
            "  predicted / measured": lambda v: (
                f"{v['predicted_step_seconds'] / v['measured']['step_seconds']:.2f}"
                if "measured" in v
                else "-"
            ),
            "  dispatch": lambda v: _measured(v, "dispatch_seconds"),
            "  waiting for each step": lambda v: _measured(v, "gap_seconds"),
        }
    if any("input_wait_fraction" in v.get("measured", {}) for v in variants):
        rows |= {
            "  images/s with input": lambda v: (
                f"{v['measured']['images_per_second_per_chip_with_input']:,.0f}"
            ),
            "  waiting for input": lambda v: f"{v['measured']['input_wait_fraction']:.1%}",
        }
    return rows


def _cell(show: Callable[[dict[str, Any]], str], facts: dict[str, Any]) -> str:
    """What a row shows of a variant; "-" for what is None because the step does not fit."""
    try:
        return show(facts)
    except (TypeError, AttributeError, KeyError):
        if facts["fits"]:
            raise
        return "-"


def _largest_batch(facts: dict[str, Any]) -> str:
    about = "" if facts["largest_batch_compiled"] else "about "
    return f"{about}{facts['largest_batch_per_device']:,}"


def _memory(facts: dict[str, Any]) -> str:
    shown = f"{facts['peak_bytes'] / 2**30:.2f} of {facts['capacity_bytes'] / 2**30:.0f} GiB"
    return shown if facts["fits"] else f"{shown}: DOES NOT FIT"


def _measured(facts: dict[str, Any], name: str, *percentiles: str) -> str:
    if "measured" not in facts:
        return "-"
    shown = [f"{1e3 * facts['measured'][key]:.2f}" for key in percentiles]
    return f"{1e3 * facts['measured'][name]:.2f} ms" + (f" ({' to '.join(shown)})" if shown else "")


def _where(facts: dict[str, Any]) -> str:
    """Phases and the costliest operations of a variant."""
    total = facts["predicted_step_seconds"]
    phases = ", ".join(
        f"{name} {sums['seconds'] / total:.1%}"
        for name, sums in facts["phases"].items()
        if sums["seconds"]
    )
    lines = [
        f"{facts['topology']} {facts['partitioner']} {facts['batch_per_device']}: {phases}",
        f"  {'ms':>7} {'share':>6} {'MB':>7} {'GFLOP':>7}  operation",
    ]
    for op in facts["operations"]:
        source = op["source"].rpartition("/")[2]
        lines.append(
            f"  {1e3 * op['seconds']:7.3f} {op['seconds'] / total:6.1%} {op['bytes'] / 1e6:7.0f} "
            f"{op['flops'] / 1e9:7.1f}  {op['phase']} {op['layer'] or '-'} ({op['kind']}, "
            f"{source}) {op['shape'][:60]}"
        )
    return "\n".join(lines)


def comparison_text(result: dict[str, Any]) -> str:
    """The result of `compare.compare`."""
    lines = [f"{'':26} {'A':>16} {'B':>16} {'B / A':>8}"]
    for name, (one, other, ratio) in result["ratios"].items():
        shown = f"{ratio:8.3f}" if ratio is not None else f"{'-':>8}"
        lines.append(f"{name:26} {one:16,.6g} {other:16,.6g} {shown}")
    lines.append("operations, where their number changed:")
    for kind, (one, other) in result["kinds"].items():
        lines.append(f"  {kind:24} {one:16,} {other:16,}")
    for title, key in (("only in A", "lost"), ("only in B", "new")):
        lines.append(f"{title}, by predicted time:")
        for op in result[key]:
            lines.append(
                f"  {1e3 * op['seconds']:7.3f} ms {op['phase']} {op['layer'] or '-'} "
                f"({op['kind']}) {op['shape'][:70]}"
            )
    return "\n".join(lines)
