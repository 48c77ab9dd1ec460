"""What a run should be warned of by its own numbers, each time once."""

from collections.abc import Callable, Mapping

from imagenet_jax.tasks.task import Task


class Concerns:
    """Looks at the metrics of a run as they come."""

    def __init__(self, task: Task, say: Callable[[str], None]):
        self._task, self._say = task, say
        self._said: set[str] = set()

    def look(self, what: str, step: int, metrics: Mapping[str, float]) -> None:
        """Says the first `Task.concern` of the metrics of "training" or "evaluation" at a step."""
        concern = "" if what in self._said else self._task.concern(metrics)
        if concern:
            self._said.add(what)
            self._say(f"warning: {what}, step {step:,}: {concern}")
