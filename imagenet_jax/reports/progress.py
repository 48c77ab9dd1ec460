"""A progress bar on a terminal; now and then a line in a log file."""

import sys
import time
from collections.abc import Mapping

import tqdm

LINE_EVERY_SECONDS = 10.0


class Progress:
    """Shows steps done, time left, and the speed and metrics of the latest log."""

    def __init__(self, *, start: int, total: int, images_per_step: int, formats: Mapping[str, str]):
        """`start` of `total` steps are done already; `formats` of what is shown, by its name."""
        self._formats = {"images_per_second": "{:,.0f} images/s", **formats}
        self._start, self._total, self._images = start, total, images_per_step
        self._began: float | None = None
        self._metrics: dict[str, float] = {}
        self._bar = None

    def _begin(self, step: int) -> None:
        """Counts from the end of the first step on: what comes before is compiling."""
        self._began = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                initial=self._start * self._images,
                total=self._total * self._images,
                unit="img",
                unit_scale=True,
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
            self._bar.update(self._images)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_SECONDS or step == self._total:
            self._last_line = now
            rate = (step - self._start) / max(now - self._began, 1e-9)
            left = (self._total - step) / max(rate, 1e-9)
            eta = tqdm.tqdm.format_interval(left)
            self.note(
                f"step {step}/{self._total} ({step / self._total:.0%})  ETA {eta}  {self._text()}"
            )

    def show(self, scalars: Mapping[str, float]) -> None:
        """Shows speed and metrics beside the bar, or on the next line."""
        self._metrics.update(
            {name: value for name, value in scalars.items() if name in self._formats}
        )
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(), refresh=False)

    def _text(self) -> str:
        formats = self._formats
        return "  ".join(formats[name].format(value) for name, value in self._metrics.items())

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        tqdm.tqdm.write(text.rstrip(), file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
