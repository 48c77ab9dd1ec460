"""The equal average of trained weights: of checkpoints of a run, of several runs, of files.

Of one run: as torchvision's MobileNetV3. Of several that start from the same weights: a uniform
"model soup" (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from imagenet_jax.config import flatten, from_dict
from imagenet_jax.devices.sharding import make_mesh, place
from imagenet_jax.errors import CheckpointError, DataError, WeightsError
from imagenet_jax.reports.workdir import checkpoints_of, reported_checkpoint
from imagenet_jax.tasks.classes import class_facts
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.terminal import working
from imagenet_jax.training.batch_statistics import BatchStatistics, config_for_statistics
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.checkpoint_manager import scores
from imagenet_jax.training.program import make_program
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.state import different_arrays
from imagenet_jax.training.trained import trained_from_file, trained_model
from imagenet_jax.weights.files import write_safetensors
from imagenet_jax.weights.load import load_file

# Fields of config.model without a meaning for what trained weights compute.
_OF_TRAINING = (
    *("dropout", "drop_path", "dtype", "remat", "scan", "fused_norm", "fast_variance"),
    *("bn_group_size", "bn_momentum", "frozen_norm", "zero_init_residual", "conv_init", "bn_init"),
    *("kernel_init", "head_std", "head_bias", "uniform_drop_path", "layer_scale"),
)


class Member(NamedTuple):
    """One of the weights that are averaged.

    Attributes:
      name: for people.
      variables: params and batch_stats, NumPy arrays, LoRA merged.
      facts: of its task, see `Task.facts`; {} where a file does not say.
      fields: of the config, on which depends what the weights mean; {} of a file.
    """

    name: str
    variables: dict[str, Any]
    facts: dict[str, Any]
    fields: dict[str, Any]


def average_weights(
    config: ml_collections.ConfigDict, sources: Sequence[Path], run: Path | None, which: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Averages weights, and estimates statistics of BatchNorm if config.eval.norm_batches says so.

    Args:
      config: of the run, or of the model that files are of.
      sources: working directories of runs, or files of weights.
      run: whose model and classes files have; None: they are of config.model.name.
      which: of each run, see `chosen_steps`; "": the checkpoint that it reports.

    Returns:
      The variables; and model, averaged (a list of names), norm_batches and class_names.

    Raises:
      CheckpointError, WeightsError: for what is not there, is only one, or does not fit the others.
    """
    total, first, names = None, None, []
    for member in _members(config, sources, run, which):
        if first is None:
            first = member
        _refuse_others(first, member)
        # Files need not say what they are of: the first one that does counts.
        first = first._replace(
            fields=first.fields or member.fields, facts=first.facts or member.facts
        )
        part = jax.tree.map(np.float64, member.variables)
        total = part if total is None else jax.tree.map(np.add, total, part)
        names.append(member.name)
    if len(names) < 2:
        raise CheckpointError(
            f"{names[0]} is all that there is to average; name more runs or files, or several "
            "checkpoints as in --checkpoints=last:3"
        )
    variables = jax.tree.map(lambda array: np.float32(array / len(names)), total)
    if config.eval.norm_batches:
        variables = _with_statistics(variables, config, first.facts)
    facts = {"model": config.model.name, "averaged": names}
    facts |= {"norm_batches": config.eval.norm_batches}
    return variables, facts | {"class_names": first.facts.get("class_names", [])}


def write_average(path: Path, variables: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes them as .safetensors, with what they are in the file's metadata."""
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, variables, {k: json.dumps(v) for k, v in facts.items()})


def chosen_steps(folder: Path, which: str) -> list[int]:
    """The steps of several checkpoints of a run.

    Args:
      folder: of the checkpoints.
      which: "last:N"; "best:N" by the metric of the task; "improved:N", the last of those that
        were better than all before them; or the steps, with commas.

    Raises:
      CheckpointError: if there are not as many.
    """
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    kind, _, count = which.partition(":")
    if kind == "last":
        found = steps[-int(count) :]
    elif kind == "best":
        scored = scores(folder)
        found = sorted(sorted(scored, key=lambda step: (scored[step], step))[-int(count) :])
    elif kind == "improved":
        found, highest = [], -np.inf
        for step, score in scores(folder).items():
            if score > highest:
                found, highest = [*found, step], score
        found = found[-int(count) :]
    else:
        return [int(step) for step in which.split(",")]
    if len(found) < int(count):
        raise CheckpointError(
            f"--checkpoints={which}: {folder} has {len(found)} of them, and the checkpoints of the "
            f"steps {', '.join(map(str, steps))}; more are kept with config.checkpoint.keep and "
            "config.checkpoint.keep_best"
        )
    return found


def _members(
    config: ml_collections.ConfigDict, sources: Sequence[Path], run: Path | None, which: str
) -> Iterator[Member]:
    for source in sources:
        with working(f"reading {source}"):
            if source.is_dir():
                yield from _of_run(source, which, config.eval.weights)
            elif run:
                found = trained_from_file(run, source, config)
                yield Member(str(source), found.variables, found.task.facts(), {})
            else:
                loaded = load_file(source, config.model.name)
                facts = class_facts(loaded.known_classes) if loaded.known_classes else {}
                yield Member(str(source), loaded.variables, facts, {})


def _of_run(workdir: Path, which: str, weights: str) -> Iterator[Member]:
    folder = checkpoints_of(workdir)
    record = Checkpoints(folder, keep=1, read_only=True).record()
    if record is None:
        raise CheckpointError(f"no checkpoints in {folder}; train first")
    config = from_dict(record["config"])
    config.eval.weights = weights
    config.eval.norm_batches = 0  # statistics are averaged, or estimated once for all
    steps = chosen_steps(folder, which) if which else [reported_checkpoint(config)]
    fields = {
        name: value
        for name, value in flatten(config)
        if name in ("augment.mean", "augment.std", "task")
        or (name.startswith("model.") and name.removeprefix("model.") not in _OF_TRAINING)
    }
    for step in steps:
        found = trained_model(workdir, str(step), config)
        variables = jax.device_get(found.variables)
        yield Member(found.name, variables, found.task.facts(), fields)


def _refuse_others(first: Member, member: Member) -> None:
    """Raises WeightsError if two do not mean the same."""
    wrong = [
        f"config.{name} is {member.fields[name]!r}, expected {value!r}"
        for name, value in first.fields.items()
        if member.fields and member.fields.get(name) != value
    ]
    wrong = wrong or different_arrays(member.variables, first.variables)
    if not wrong and member.facts and first.facts and member.facts != first.facts:
        wrong = ["its outputs are other classes, or in another order"]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise WeightsError(
            f"{member.name} cannot be averaged with {first.name}: {'; '.join(wrong[:8])}{more}"
        )


def _with_statistics(
    variables: dict[str, Any], config: ml_collections.ConfigDict, facts: dict[str, Any]
) -> dict[str, Any]:
    """The variables with statistics from config's training data."""
    config = config_for_statistics(config)
    config.finetune.mode = "full"  # what it was trained by is merged
    mesh = make_mesh(config.sharding)
    check_config(config, mesh)
    with working(f"opening {config.data.name}"):
        split = task_split(config, train=True)
    task = make_task(config, split)
    if facts and task.facts() != facts:
        raise DataError(
            f"config.eval.norm_batches = {config.eval.norm_batches} takes images of "
            f"{config.data.name}, split {split.name}, whose classes are not those of the weights"
        )
    program = make_program(task, mesh, num_examples=split.num_examples)
    shapes = program.state_shapes().eval_variables()
    estimated = BatchStatistics(program, split).estimated(
        place(variables, shapes), program.total_steps
    )
    return jax.device_get(estimated)
