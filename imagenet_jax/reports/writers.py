"""Where metrics go: metrics.jsonl and summary.json; `tracking` has the others."""

import csv
import errno
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import ml_collections

from imagenet_jax.atomic import replace_text, replacing

if TYPE_CHECKING:  # a tenth of a second, also where only flags are wrong
    import numpy as np


class Writer(Protocol):
    """The part of clu.metric_writers.MetricWriter that training uses."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class ImageWriter(Writer, Protocol):
    """One that takes pictures as well."""

    def write_images(self, step: int, images: Mapping[str, "np.ndarray"]) -> None:
        """Writes images uint8 [H, W, 3] by their names."""


# (config, workdir, steps done, total steps) to a writer, and hooks for each step.
Tracking = Callable[
    [ml_collections.ConfigDict, Path, int, int], tuple[Writer, list[Callable[[int], Any]]]
]


class MetricsFile:
    """WORKDIR/metrics.jsonl: one JSON object a line, {"step": 50, "train/loss": 1.2, ...}."""

    def __init__(self, path: Path, *, resume_step: int, evaluation_due: bool = False):
        """Opens for appending; lines of what will be redone are dropped.

        That is what comes after `resume_step`, and its evaluation if that is due.
        """
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        if evaluation_due:
            kept = [
                line
                for line in kept
                if line["step"] < resume_step or not any(name.startswith("eval/") for name in line)
            ]
        replace_text(path, "".join(map(_json_line, kept)))
        self._file = path.open("ab", buffering=0)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        line = _json_line({"step": step, **scalars}).encode()
        begin = os.fstat(self._file.fileno()).st_size
        if self._file.write(line) < len(line):  # the next one would be lost with half a line
            self._file.truncate(begin)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def flush(self) -> None:
        """Each line is written at once."""

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl, null as NaN; what a kill or a bad disk made of others is left
    out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append({k: math.nan if v is None else v for k, v in line.items()})
    return lines


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Writes a JSON file in one go; NaN becomes null, which JSON can hold."""
    replace_text(path, json.dumps(_plain(summary), indent=2) + "\n")


def _json_line(scalars: Mapping[str, float]) -> str:
    return json.dumps(_plain(scalars)) + "\n"


def _plain(value: Any) -> Any:
    """The value with null for the numbers that JSON does not know: NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table with commas, see `atomic.replace_text`; bytes that are no UTF-8 as \\udcXX."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode())


def replace_figure(path: Path, figure: Any) -> None:
    """Saves a matplotlib figure as PNG, see `atomic.replacing`."""
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(partial, format="png", dpi=120)
