"""A progress bar on a terminal; now and then a line in a log file."""

import sys
import time
from collections.abc import Callable, Mapping

import tqdm

from imagenet_jax.terminal import say

LINE_EVERY_SECONDS = 10.0
# Within 80 columns; the bar takes what the rest leaves.
_BAR = "{desc} |{bar}| {remaining} left{postfix}"


class Progress:
    """Shows epochs done, time left, and the speed and metrics of the latest log."""

    def __init__(
        self,
        *,
        start: int,
        total: int,
        epochs: Callable[[int], float],
        formats: Mapping[str, str],
    ):
        """`start` of `total` steps are done.

        Args:
          start, total: steps.
          epochs: that are done after so many steps.
          formats: of what is shown, by its name.
        """
        self._formats = {"images_per_second": "{:,.0f} images/s", **formats}
        self._start, self._total, self._epochs = start, total, epochs
        self._began: float | None = None
        self._metrics: dict[str, float] = {}
        self._bar = None

    def _begin(self, step: int) -> None:
        """Counts from the end of the first step on: what comes before is compiling."""
        self._began = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                initial=self._start,
                total=self._total,
                bar_format=_BAR,
                dynamic_ncols=True,
                smoothing=0.1,
                miniters=1,
            )
        self._start = step

    def step(self, step: int) -> None:
        """One more step is done."""
        if self._began is None:
            self._begin(step)
        if self._bar is not None:
            self._bar.set_description_str(self._place(step), refresh=False)
            self._bar.update(1)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = now
            rate = (step - self._start) / max(now - self._began, 1e-9)
            left = f"{tqdm.tqdm.format_interval((self._total - step) / rate)} left" if rate else ""
            facts = (f"step {step:,} of {self._total:,}", self._place(step), left, self._text())
            say("  ".join(filter(None, facts)))

    def show(self, scalars: Mapping[str, float]) -> None:
        """Shows speed and metrics beside the bar, or on the next line."""
        self._metrics.update(
            {name: value for name, value in scalars.items() if name in self._formats}
        )
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(), refresh=False)

    def evaluated(self, step: int, split: str, rows: Mapping[str, str]) -> None:
        """A line that stays; `rows` as of `Task.rows`."""
        values = (f"{name} {value.partition('  (')[0]}" for name, value in rows.items())
        place = self._place(step).partition("/")[0]
        say("  ".join((f"{place}, step {step:,}: {split}", *values)))

    def _place(self, step: int) -> str:
        return f"epoch {self._epochs(step):.1f}/{self._epochs(self._total):.3g}"

    def _text(self) -> str:
        formats = self._formats
        return "  ".join(formats[name].format(value) for name, value in self._metrics.items())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
