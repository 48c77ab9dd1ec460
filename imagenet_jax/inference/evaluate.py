"""Evaluation of what is trained: a checkpoint of a run, or pretrained weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from imagenet_jax.config import network_name
from imagenet_jax.data import Split, check_splits
from imagenet_jax.data.catalog import evaluation_split
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.data.sources.imagenet import SYNSETS, imagenet_labels
from imagenet_jax.devices.sharding import make_mesh, replicated
from imagenet_jax.errors import CheckpointError, DataError, did_you_mean
from imagenet_jax.inference.evaluation_files import (
    add_explanations,
    check_explainable,
    unless_in_use,
    write_files,
)
from imagenet_jax.reports.workdir import checkpoints_of
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.tasks.task import Task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.batch_statistics import BatchStatistics, config_for_statistics
from imagenet_jax.training.checkpoint import Checkpoints, Record
from imagenet_jax.training.checks import check_source
from imagenet_jax.training.evaluate import bank_for, evaluate_split, say_bank
from imagenet_jax.training.position import course_of
from imagenet_jax.training.program import make_program
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.suites import Suites
from imagenet_jax.training.trained import TrainedModel, needs_statistics


def evaluate_run(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    which: str,
    per_image: Path | None = None,
    explain: bool = False,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a working directory, and writes what goes wrong into it.

    While a run is at work there, nothing is written: it has its own to tell.

    Args:
      config: the config of the run; data and eval fields may differ.
      workdir: the working directory of the run.
      which: "latest", "best" or a step number.
      per_image: a file for the table of `Task.example_rows`.
      explain: whether to draw what the most wrong answers depend on, too.

    Returns:
      task, model, dataset, step, eval (see `evaluate_split`), with config.eval.weights = "both"
      eval_raw, report (see `Task.report`), and errors, a list of error, if per_image cannot be
      written.

    Raises:
      CheckpointError: if there is no checkpoint, or only one of another model or other classes.
    """
    mesh = make_mesh(config.sharding)
    check_config(config, mesh, training=False)
    folder = checkpoints_of(workdir)
    with working(f"opening {config.data.name}"):
        split = task_split(config, train=False)
    task = make_task(config, split)
    if explain:
        check_explainable(task)
    checkpoints = Checkpoints(folder, keep=config.checkpoint.keep, read_only=True)
    if learnt := checkpoints.record(which):
        task = task.learnt_from(learnt["data"])
    program = make_program(task, mesh)

    def check(step: int, record: Record) -> None:
        if any(record["data"].get(name) != value for name, value in task.facts().items()):
            raise CheckpointError(
                f"checkpoint {step} in {workdir} was trained on other classes than those of "
                f"{config.data.name}, split {split.name}"
            )

    restored = checkpoints.restore(program.state_shapes(), which=which, check=check)
    if restored is None:
        raise CheckpointError(f"no checkpoints in {folder}; train first")
    state, record = restored
    variables = state.eval_variables(config.eval.weights)
    if needs_statistics(record, config):
        variables = _with_statistics(variables, config, mesh, record)
    eval_step = program.compile_eval_step(split.num_examples)
    evaluated = partial(evaluate_split, program, eval_step, split=split, bank=_bank(task, split))
    raw = {}
    if config.eval.weights == "both":
        raw = {"eval_raw": evaluated(state.eval_variables("raw"))}
    meter, report_to = task.meter(split), unless_in_use(workdir)
    result = evaluated(variables, meter=meter)
    _warn(task, result)
    written = write_files(task, meter, split, report_to, per_image)
    if explain and report_to:
        params = program.tuning.merge_lora(variables["params"])
        whole = jax.device_get({**variables, "params": params})
        name = f"{workdir}, step {record['position']['step']}"
        trained = TrainedModel(name, program.model, whole, task)
        written = add_explanations(written, trained, meter, split, report_to)
    return {
        "task": config.task,
        "model": network_name(config),
        "dataset": config.data.name,
        "step": record["position"]["step"],
        "eval": result,
        **raw,
        **written,
    }


def evaluate_pretrained(
    trained: TrainedModel,
    workdir: Path | None = None,
    *,
    per_image: Path | None = None,
    explain: bool = False,
) -> dict[str, Any]:
    """Evaluates a classifier on the data set of its config.

    The data set's classes may be a part of the classifier's, in any order, by name; ImageNet's
    also by synset.

    Args:
      trained: the classifier.
      workdir: where what goes wrong is written; None: nowhere.
      per_image, explain: as of `evaluate_run`.

    Returns:
      What `evaluate_run` does but step, and reported_top1, reported_top5 (percent),
      what is published for named weights on ImageNet's validation set.

    Raises:
      DataError: for a class that is none of the classifier's.
    """
    config = trained.config
    if explain:
        check_explainable(trained.task)
    mesh = make_mesh(config.sharding)
    check_config(config, mesh, training=False)
    split = open_evaluation(trained)
    program = make_program(trained.task, mesh)
    variables = {"batch_stats": {}, **trained.variables}
    variables = jax.device_put(variables, replicated(mesh))
    eval_step = program.compile_eval_step(split.num_examples)
    meter = trained.task.meter(split)
    workdir = workdir and unless_in_use(workdir)
    bank = _bank(trained.task, split)
    result = evaluate_split(program, eval_step, variables, split, meter=meter, bank=bank)
    _warn(trained.task, result)
    summary = {"task": config.task, "model": trained.name, "dataset": config.data.name}
    summary["eval"] = result
    written = write_files(trained.task, meter, split, workdir, per_image)
    if explain and workdir:
        written = add_explanations(written, trained, meter, split, workdir)
    summary |= written
    if trained.weights:
        summary["reported_top1"] = trained.weights.top1
        summary["reported_top5"] = trained.weights.top5
    return summary


def open_evaluation(trained: TrainedModel) -> Split:
    """The evaluation split of a model's config, with the model's numbers of its classes.

    Raises:
      DataError: if there is none, or for a class that is none of the model's.
    """
    config = trained.config
    with working(f"opening {config.data.name}"):
        split = task_split(config, train=False)
    if trained.task.is_open_set or trained.task.gives_features:
        return split
    names, known = split.source.class_names, trained.task.class_names
    if trained.task.reads == (ONE,):
        split.label_map = _labels(names, known)
    elif tuple(names) != known:
        raise DataError(f"the classes of {config.data.name} are not those of {trained.name}")
    return split


def evaluate_trained(trained: TrainedModel, dataset: str = "", split: str = "") -> dict[str, Any]:
    """As `evaluate_pretrained`, on any data set.

    Args:
      trained: the model.
      dataset: as config.data.name; "": that of its config.
      split: "": the one that `data.catalog.evaluation_split` finds, or the config has.

    Raises:
      DataError: for a data set that is missing, or classes that are none of the model's.
    """
    config = trained.config.copy_and_resolve_references()
    if dataset:
        config.data.name, config.data.folds = dataset, 0
        config.data.eval_split = split or evaluation_split(dataset, config.data.dir)
    elif split:
        config.data.eval_split = split
    check_source(config, here=True)
    task = dataclasses.replace(trained.task, config=config)
    return evaluate_pretrained(dataclasses.replace(trained, task=task))


def evaluate_suites(trained: TrainedModel) -> dict[str, Any]:
    """Evaluates a classifier of ImageNet's classes on the suites of config.eval.suites.

    Returns:
      task, model, and suites, {name: what `suites.results.suite_result` gives}.

    Raises:
      ConfigError: for a classifier of other classes.
      DataError: for a suite that is not there, or not as it is published.
    """
    config = trained.config.copy_and_resolve_references()
    config.finetune.mode = "full"  # what it was trained by is merged
    mesh = make_mesh(config.sharding)
    check_config(config, mesh, training=False)
    program = make_program(dataclasses.replace(trained.task, config=config), mesh)
    suites = Suites(program)
    variables = {"batch_stats": {}, **trained.variables}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.state_shapes().eval_variables())
    suites.evaluate(jax.device_put(variables, shardings))
    return {"task": config.task, "model": trained.name, "suites": suites.results}


def _bank(task: Task, split: Split) -> Split | None:
    """The training images that an evaluation of a task on a split compares with.

    Raises:
      DataError: if there are none, or they have other classes.
    """
    if not task.looks_at_training:
        return None
    with working(f"opening {task.config.data.name}"):
        train_split = task_split(task.config, train=True)
    check_splits(train_split, split)
    bank = bank_for(task, train_split)
    say_bank(bank, train_split)
    return bank


def _warn(task: Task, result: Mapping[str, Any]) -> None:
    if concern := task.concern(result):
        say(f"warning: {concern}")


def _with_statistics(
    variables: dict[str, Any], config: ml_collections.ConfigDict, mesh: Mesh, record: Record
) -> dict[str, Any]:
    """The variables of a checkpoint with statistics from the training data of its run."""
    config = config_for_statistics(config)
    check_config(config, mesh)
    with working(f"opening {config.data.name}"):
        split = task_split(config, train=True)
    course = course_of(config, record)
    program = make_program(
        make_task(config, split), mesh, num_examples=split.num_examples, course=course
    )
    return BatchStatistics(program, split).estimated(variables, record["position"]["step"])


def _labels(names: Sequence[str], known: tuple[str, ...]) -> np.ndarray:
    """The classifier's labels int32 [K] of the data set's classes."""
    if known == SYNSETS:
        return imagenet_labels(names)
    for name in names:
        if name not in known:
            raise DataError(
                f"the class {name!r} of the data set is none of the {len(known)} classes of the "
                f"weights, {known[0]!r}, ...{did_you_mean(name, known)}"
            )
    return np.array([known.index(name) for name in names], np.int32)
