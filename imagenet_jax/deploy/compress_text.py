"""The table that `compress` prints."""

from typing import Any

_LAYERS = 5  # that hurt most, of a network in int8


def compress_text(result: dict[str, Any]) -> str:
    """What `compress` returned, for people: a table, a row each variant."""
    metric, rows = result["metric"], result["variants"]
    first, several = rows[0], [*rows[0]["latency_ms"]]
    trained = result["duration"] and first[metric] is not None
    head = ["", metric, *(["at once"] if trained else []), "parameters", "non-zero", "GMACs"]
    head += [f"{count} image{'s' * (count != '1')}" for count in several]
    table = [[*head, "file", "gzip"]]
    for row in rows:
        cells = [row["name"], _told(row[metric], metric)]
        cells += [_told(row.get("at_once"), metric)] if trained else []
        cells += [f"{row['parameters']:,}", f"{row['nonzero']:,}", f"{row['gmacs']:.4g}"]
        cells += [_time(row, first, count) for count in several]
        cells += [_size(row[name]) for name in ("bytes", "gzip_bytes")]
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
    about = f"and trained for {result['duration']} each" if result["duration"] else "at once"
    if result["dataset"]:
        count, split = result["num_examples"], result["split"]
        about += f", on {count:,} images of {result['dataset']}, {split}"
    else:
        about += "; nothing was evaluated"
    for row in rows:
        lines += _of_int8(row)
    return "\n".join([f"{result['model']}, made smaller {about}", "", *lines])


def _of_int8(row: dict[str, Any]) -> list[str]:
    """What is to be said of a network in int8, or a file of one."""
    if "same_answers" in row:
        return [f"{row['name']}: {row['same_answers']} of {row['compared']} answers are the same"]
    if not (layers := row.get("sensitivity")):
        return []
    shown = [f"  {layer['difference']:8.2%}  {layer['layer']}" for layer in layers[:_LAYERS]]
    return [
        "",
        f"{row['name']}: ranges of {row['calibrated_on']}. What a layer alone changes of the "
        f"outputs, the most of {len(layers)}:",
        *shown,
    ]


def _time(row: dict[str, Any], first: dict[str, Any], count: str) -> str:
    if not row["latency_ms"]:
        return "-"
    time, was = row["latency_ms"][count], first["latency_ms"][count]
    return f"{_short(time)} ms" + ("" if row is first else f" ({was / time:.2f} x)")


def _size(count: int | None) -> str:
    return "-" if count is None else f"{_short(count / 1e6)} MB"


def _short(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _told(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if metric == "loss" else f"{100 * value:.2f} %"
