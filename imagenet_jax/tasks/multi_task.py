"""Several tasks over one backbone: the sum of their losses, with fixed or learned weights."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.augment import is_mixing
from imagenet_jax.data import Split
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import find_levels
from imagenet_jax.models.shared import GivenMaps, Head, PooledClassifier, SharedBackbone
from imagenet_jax.models.table import create_model
from imagenet_jax.tasks.classes import network_options
from imagenet_jax.tasks.multi_parts import (
    KINDS,
    MultiMeter,
    answer_columns,
    answer_lines,
    below,
    config_of,
    draw,
    part_of,
    report_lines,
    rows,
    task_heads,
)
from imagenet_jax.tasks.task import Batch, Field, Outcome, Sums, Task, Term

_UNCERTAINTY = "uncertainty"  # the term of learned weights


@dataclasses.dataclass(frozen=True)
class MultiTask(Task):
    """The tasks of config.multi_task, each of which reads its own fields of an image.

    With learned weights each loss L becomes exp(-s) L + s / 2, s being a parameter of the network
    (Kendall et al. 2018, https://arxiv.org/abs/1705.07115, in the form for classes).

    Attributes:
      tasks: by their names.
    """

    tasks: Mapping[str, Task]

    reads = ()
    top = 0  # that of each task
    head_has_norms = True
    best = "score"
    eval_metrics: ClassVar[Mapping[str, bool]] = {"score": True} | {
        f"{name}_{metric}": higher
        for name, kind in KINDS.items()
        for metric, higher in kind.eval_metrics.items()
    }

    @classmethod
    def reads_of(cls, config: ml_collections.ConfigDict) -> tuple[tuple[str, ...], ...]:
        return tuple(KINDS[name].reads for name in task_heads(config))

    @classmethod
    def _made(
        cls, config: ml_collections.ConfigDict, make: Callable[[str, Any], Task]
    ) -> "MultiTask":
        heads = task_heads(config)
        return cls(
            config, {name: make(name, config_of(config, name, heads[name])) for name in heads}
        )

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "MultiTask":
        return cls._made(config, lambda name, own: KINDS[name].of_split(own, part_of(split, name)))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "MultiTask":
        return cls._made(config, lambda name, own: KINDS[name].described(own))

    @classmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "MultiTask":
        return cls._made(config, lambda name, own: KINDS[name].of_facts(own, facts[name]))

    def facts(self) -> dict[str, Any]:
        return {name: task.facts() for name, task in self.tasks.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the first task."""
        return next(iter(self.tasks.values())).class_names

    @property
    def train_metrics(self) -> tuple[str, ...]:
        """The loss, what each task counts, and what each task tells."""
        of_tasks = [
            f"{name}_{metric}" for name, task in self.tasks.items() for metric in task.train_metrics
        ]
        return ("loss", *(f"weight_{name}" for name in self.tasks), *of_tasks)

    def part_that(self, attribute: str) -> tuple[str, Task] | None:
        found = (pair for pair in self.tasks.items() if getattr(pair[1], attribute))
        return next(found, None)

    def fields(self) -> dict[str, Field]:
        return {k: field for task in self.tasks.values() for k, field in task.fields().items()}

    def model(self, devices: int = 1) -> nn.Module:
        """The heads of all tasks on config.model.name, which is not dilated for any of them.

        Raises:
          ConfigError: for what does not go with one of the tasks.
        """
        config, heads = self.config, []
        if config.model.head:
            raise ConfigError(
                f"config.model.head = {config.model.head!r}: config.multi_task.tasks has the heads"
            )
        if is_mixing(config.augment):
            raise ConfigError("config.task = 'multi_task' does not go with augment.mixup or cutmix")
        backbone = create_model(
            config.model.name, num_classes=1, **network_options(config, devices)
        )
        for name, task in self.tasks.items():
            network = task.model(devices)
            inner = getattr(network, "backbone", None)
            if inner is None:  # a classifier
                last = find_levels(backbone)[-1].name
                classifier = PooledClassifier(len(task.class_names), (last,), backbone.layers)
                heads.append(Head(name, classifier, (last,)))
            elif hasattr(inner, "body"):
                backbone = inner.body
                module = network.clone(backbone=inner.clone(body=GivenMaps()))
                heads.append(Head(name, module, tuple(inner.names)))
            else:
                maps = (*network.names, network.auxiliary)
                module = network.clone(backbone=GivenMaps())
                heads.append(Head(name, module, tuple(filter(None, maps))))
        return SharedBackbone(backbone, tuple(heads), config.multi_task.learned)

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Images float32 [B, S, S, 3], the same for all tasks, with what heads need by their names;
        and what each should find."""
        given, targets = {}, {}
        for name, task in self.tasks.items():
            own, targets[name] = task.inputs(batch, key, step, train=train)
            if isinstance(own, Mapping):
                given[name] = {k: value for k, value in own.items() if k != "image"}
                own = own["image"]
            given["image"] = own
        return given if train else given["image"], targets

    def seen(self, inputs: Any, targets: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
        """As the first task shows them."""
        name, task = next(iter(self.tasks.items()))
        return task.seen(inputs["image"], targets[name])

    def terms(self) -> dict[str, Term]:
        weights = self.config.multi_task.weights or (1.0,) * len(self.tasks)
        found = {_UNCERTAINTY: Term(1.0, "examples")} if self.config.multi_task.learned else {}
        for weight, (name, task) in zip(map(float, weights), self.tasks.items(), strict=True):
            for term, (share, over) in task.terms().items():
                found[f"{name}/{term}"] = Term(weight * share, f"{name}/{over}")
        return found

    def denominators(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        found = {"examples": batch["mask"].sum()}
        for name, task in self.tasks.items():
            own = task.denominators(batch, key)
            found |= {f"{name}/{over}": value for over, value in own.items()}
        return found

    def losses(
        self,
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
    ) -> Outcome:
        (outputs, variances), updated = apply(inputs)
        numerators, outcomes = {}, {}
        for name, task in self.tasks.items():
            mine = updated.get("auxiliary", {}).get(name, {})
            own = (outputs[name], {**updated, "auxiliary": mine})
            found = task.losses(lambda _, own=own: own, inputs["image"], targets[name])
            outcomes[name] = found
            share = jnp.exp(-variances[name])
            numerators |= {
                f"{name}/{term}": share * value for term, value in found.numerators.items()
            }
        if self.config.multi_task.learned:
            half = sum(variances.values()) / 2
            numerators[_UNCERTAINTY] = jnp.broadcast_to(half, inputs["image"].shape[:1])
        return Outcome(numerators, (outcomes, variances), updated)

    def zero_sums(self) -> Sums:
        found = {"loss": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}
        for name, task in self.tasks.items():
            found[f"weight_{name}"] = jnp.zeros(())
            found |= {f"{name}/{key}": value for key, value in task.zero_sums().items()}
        return found

    def sums(self, outcome: Outcome, targets: Mapping[str, Any], mask: jax.Array) -> Sums:
        """loss is the sum of all numerators, which `guard` looks at."""
        outcomes, variances = outcome.outputs
        parts = (jnp.where(mask, part, 0).sum() for part in outcome.numerators.values())
        count = mask.sum(dtype=jnp.int32)
        found = {"loss": sum(parts), "count": count}
        for name, task in self.tasks.items():
            own = task.sums(outcomes[name], targets[name], mask)
            found |= {f"{name}/{key}": value for key, value in own.items()}
            found[f"weight_{name}"] = count * jnp.exp(-variances[name])
        return found

    def predict(self, apply: Callable[..., Any], inputs: jax.Array) -> dict[str, Any]:
        outputs, _ = apply(inputs)
        return {
            name: task.predict(lambda _, own=outputs[name]: own, inputs)
            for name, task in self.tasks.items()
        }

    def suppressions(self) -> dict[str, Any]:
        found = {name: task.suppressions() for name, task in self.tasks.items()}
        return {name: rule for name, rules in found.items() for rule in rules.values()}

    def without_suppression(self) -> "MultiTask":
        parts = {name: task.without_suppression() for name, task in self.tasks.items()}
        return dataclasses.replace(self, tasks=parts)

    def shown(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        return {name: task.shown(predictions[name]) for name, task in self.tasks.items()}

    def evaluation_sums(
        self, predictions: Mapping[str, Any], targets: Mapping[str, Any], mask: jax.Array
    ) -> Sums:
        found = {"count": mask.sum(dtype=jnp.int32)}
        for name, task in self.tasks.items():
            own = task.evaluation_sums(predictions[name], targets[name], mask)
            found |= {f"{name}/{key}": value for key, value in own.items()}
        return found

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples; in training what each task counts, weight_TASK; and what each task says of
        its own, its name before it; loss, the sum of theirs with these weights."""
        sums = list(sums)
        count = sum(int(part["count"]) for part in sums)
        found: dict[str, Any] = {"num_examples": count}
        fixed = self.config.multi_task.weights or (1.0,) * len(self.tasks)
        total = 0.0
        for fixed_weight, (name, task) in zip(map(float, fixed), self.tasks.items(), strict=True):
            own = task.summarize([below(name, part) for part in sums])
            found |= {f"{name}_{key}": value for key, value in own.items()}
            if f"weight_{name}" in sums[0]:
                learned = sum(float(part[f"weight_{name}"]) for part in sums) / max(count, 1)
                found[f"weight_{name}"] = fixed_weight * learned
                total += found[f"weight_{name}"] * own.get("loss", 0.0)
        return found | ({"loss": total} if f"weight_{next(iter(self.tasks))}" in found else {})

    def completed(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """With score, the mean of what each task looks at most."""
        scores = [task.score(below(name, result, "_")) for name, task in self.tasks.items()]
        return {**result, "score": float(np.mean(scores))}

    def observe(
        self, predictions: Mapping[str, Any], targets: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        return {
            f"{name}/{key}": value
            for name, task in self.tasks.items()
            for key, value in task.observe(predictions[name], targets[name]).items()
        }

    def meter(self, split: Split) -> MultiMeter:
        meters = {name: task.meter(part_of(split, name)) for name, task in self.tasks.items()}
        return MultiMeter({name: meter for name, meter in meters.items() if meter})

    def report(self, meter: MultiMeter, split: Split, folder: Path) -> dict[str, Any]:
        """That of each task, in a folder of its own."""
        return {
            name: self.tasks[name].report(own, part_of(split, name), folder / name)
            for name, own in meter.parts.items()
        }

    def answer(
        self, prediction: Mapping[str, Any], top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """{task: what it tells}."""
        return {
            name: task.answer(prediction[name], top or task.top, shape)
            for name, task in self.tasks.items()
        }

    report_lines = staticmethod(report_lines)
    rows = staticmethod(rows)
    answer_lines = staticmethod(answer_lines)
    answer_columns = staticmethod(answer_columns)
    draw = staticmethod(draw)


TASK = MultiTask
