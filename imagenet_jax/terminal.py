"""What a program says while it works, on stderr: facts that stay, and what it is doing just now."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import tqdm

from imagenet_jax.printable import printable_lines

_TICK = 0.5  # seconds between two pictures of what goes on
_FIRST_LINE, _NEXT_LINES = 10.0, 60.0  # seconds, where a log file is written
_WIDTH = 79  # characters
_SHORT = 1.0  # what takes less needs no line of its own
_lock = threading.RLock()
_shown = ""  # the line that will be drawn over
_busy = False
_gives_way = False
_silent = False


def silence() -> None:
    """Says nothing any more: another process of the job does."""
    global _silent
    _silent = True


def say(text: str) -> None:
    """A line that stays."""
    if _silent:
        return
    with _lock:
        clear()
        tqdm.tqdm.write(printable_lines(text), file=sys.stderr)  # above a progress bar
        sys.stderr.flush()


@contextlib.contextmanager
def working(what: str, *, stays: bool = True) -> Iterator[Callable[[str], None]]:
    """Shows what goes on inside, and for how long.

    On a terminal the line is drawn anew, in the place of a progress bar if there is one; a log file
    gets one after ten seconds, then one a minute. Within another one it shows nothing.

    Args:
      what: goes on.
      stays: whether a line of it does in the end, if it took a second.

    Yields:
      A function that changes the text.
    """
    global _busy
    if _silent or _busy:
        yield lambda text: None
        return
    start, text, ended, _busy = time.monotonic(), [what], threading.Event(), True

    def watch() -> None:
        due = _FIRST_LINE
        while not ended.wait(_TICK):
            seconds = time.monotonic() - start
            if sys.stderr.isatty():
                _draw(f"{text[0]}  {seconds:.0f} s")
            elif seconds >= due:
                due = seconds + _NEXT_LINES
                say(f"{text[0]}: {seconds:.0f} s so far")

    if sys.stderr.isatty():
        _draw(what)
    thread = threading.Thread(target=watch, name="terminal", daemon=True)
    thread.start()
    try:
        yield lambda news: text.__setitem__(0, news)
    finally:
        ended.set()
        thread.join()
        _busy = False
        with _lock:
            clear()
    if stays and (seconds := time.monotonic() - start) >= _SHORT:
        say(f"{what}: {seconds:.1f} s")


@contextlib.contextmanager
def counting(what: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """`working` on so many things.

    Yields:
      A function that takes how many more of them are done.
    """
    begin, done = time.monotonic(), 0
    with working(f"{what} {total:,} {unit}") as show:

        def add(count: int) -> None:
            nonlocal done
            done += count
            left = (time.monotonic() - begin) * (total - done) / max(done, 1)
            rest = f", {tqdm.tqdm.format_interval(left)} left" if 0 < done < total else ""
            show(f"{what}: {done:,} of {total:,} {unit}{rest}")

        add(0)
        yield add


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """Leaves the terminal to the bars of somebody else."""
    global _gives_way
    with _lock:
        clear()
        _gives_way = True
    try:
        yield
    finally:
        _gives_way = False


def _draw(text: str) -> None:
    global _shown
    with _lock:
        if _gives_way:
            return
        _shown = printable_lines(text)[:_WIDTH].ljust(_WIDTH)
        sys.stderr.write(f"\r{_shown}\r{_shown.rstrip()}")
        sys.stderr.flush()


def clear() -> None:
    """Makes room for a line of somebody else's."""
    global _shown
    if _shown:
        sys.stderr.write("\r" + " " * len(_shown) + "\r")
        sys.stderr.flush()
        _shown = ""
