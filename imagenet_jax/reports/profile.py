"""A trace of a few steps by JAX's profiler, for TensorBoard."""

from pathlib import Path

import jax

from imagenet_jax.terminal import say

_UNTRACED = 10  # steps before, in which caches fill


class Profile:
    """Traces `config.log.profile_steps` steps early in a run; says so if they are fewer."""

    def __init__(self, workdir: Path, steps: int, start: int, total: int):
        """`start` of `total` steps are done; the first one after them is never traced."""
        self._workdir, self._total = workdir, total
        self._begin = max(start + 1, min(start + _UNTRACED, total - steps))
        self._end = self._begin + steps
        self._last = start  # step done
        self._running = self._ended = False

    def __call__(self, step: int) -> None:
        """Begins or ends the trace after a step."""
        self._last = step
        if self._running and step >= self._end:
            self._stop()
        elif step == self._begin < self._total:
            try:
                jax.profiler.start_trace(str(self._workdir))
                self._running = True
            except Exception as error:  # as where another one runs: no reason to end
                self._ended = True
                _say(f"the profiler does not start: {error}")

    def close(self) -> None:
        """Ends a trace that still runs."""
        if self._running:
            _say(f"only steps {self._begin + 1} to {self._last} are traced; there the run ended")
            self._stop()
        elif not self._ended:
            _say(f"nothing is traced: the run ended at step {self._last}")

    def _stop(self) -> None:
        self._running, self._ended = False, True
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # it writes files
            _say(f"the trace is lost: {error}")


def _say(text: str) -> None:
    say(f"config.log.profile_steps: {text}")
