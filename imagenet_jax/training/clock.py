"""Where the time of a run goes; saved with each checkpoint, so that a resumed run adds up."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping


@dataclasses.dataclass
class Clock:
    """Seconds and images since the run began, over all its restarts.

    Attributes:
      wall_seconds: everything, up to the last `tick`.
      train_seconds: the training loop without compilation, evaluation and checkpoints.
      input_wait_seconds: part of train_seconds in which the devices had no batch to work on.
      compile_seconds: the last compilation of train_step and eval_step.
      first_step_seconds: from the last start of the run to the end of its first step.
      longest_stall_seconds: the longest that a checkpoint kept the loop from going on.
      images: images trained on in train_seconds.
    """

    wall_seconds: float = 0.0
    train_seconds: float = 0.0
    input_wait_seconds: float = 0.0
    compile_seconds: float = 0.0
    first_step_seconds: float = 0.0
    longest_stall_seconds: float = 0.0
    images: int = 0

    def __post_init__(self) -> None:
        self._start = self._last = time.perf_counter()

    @classmethod
    def of_record(cls, record: Mapping[str, float]) -> "Clock":
        """The clock of a checkpoint, maybe of another version, which counted more or less."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    def first_step(self) -> None:
        """The first step since the start is done."""
        self.first_step_seconds = time.perf_counter() - self._start

    def tick(self, *, training: bool) -> None:
        """Books the time since the last tick."""
        now = time.perf_counter()
        self.wall_seconds += now - self._last
        if training:
            self.train_seconds += now - self._last
        self._last = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside is not training time."""
        self.tick(training=True)
        yield
        self.tick(training=False)

    @contextlib.contextmanager
    def input_wait(self) -> Iterator[None]:
        """Time inside is spent waiting for input."""
        start = time.perf_counter()
        yield
        self.input_wait_seconds += time.perf_counter() - start

    @contextlib.contextmanager
    def stall(self) -> Iterator[None]:
        """Time inside keeps the loop from going on, for a checkpoint."""
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        self.longest_stall_seconds = max(self.longest_stall_seconds, taken)

    @property
    def images_per_second(self) -> float:
        return self.images / self.train_seconds if self.train_seconds else 0.0

    @property
    def input_wait_fraction(self) -> float:
        return self.input_wait_seconds / self.train_seconds if self.train_seconds else 0.0

    def facts(self) -> dict[str, float]:
        """What a summary tells of it."""
        names = ("wall_seconds", "images_per_second", "input_wait_fraction")
        names += ("compile_seconds", "first_step_seconds", "longest_stall_seconds")
        return {name: getattr(self, name) for name in names}
