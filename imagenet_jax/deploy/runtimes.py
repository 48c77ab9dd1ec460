"""A network in int8 as files of other runtimes: what they say, weigh and cost."""

import collections
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.data.catalog import Split
from imagenet_jax.deploy.comparison import Outputs, compared
from imagenet_jax.deploy.folder import FORMATS, check_formats
from imagenet_jax.deploy.formats import TABLE, Request, Run
from imagenet_jax.deploy.measured import Call, file_sizes, random_images
from imagenet_jax.deploy.program import plain_form, program_of
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError, ExportError
from imagenet_jax.inference.evaluate import open_evaluation
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.tasks.task import Batch
from imagenet_jax.terminal import say, working
from imagenet_jax.training.evaluate import evaluate_split
from imagenet_jax.training.program import make_program
from imagenet_jax.training.trained import TrainedModel

RUNTIMES = {"LiteRT": "litert_int8", "ONNX Runtime": "onnx_int8"}
_COMPARED, _AT_ONCE = 500, 10  # images of which answers are compared


def in_runtimes(
    trained: TrainedModel, name: str, folder: Path, calibration: np.ndarray, evaluates: bool
) -> tuple[list[dict[str, Any]], dict[str, Call]]:
    """The files of a network in int8, each run by its own runtime.

    What is not installed, or cannot hold or run the network, is said and left out.

    Args:
      trained: a model with config.model.quantize.
      name: what it is called.
      folder: gets the files.
      calibration: images uint8 [N, S, S, 3], on which the converters find their ranges.
      evaluates: whether to compare on the evaluation split, and not on these images.

    Returns:
      Rows: name, metric (of logits and of boxes before suppression; else None), compared: images
      on which it was compared with the simulation in floating point, same_answers: of so many it
      says the same; file, bytes, gzip_bytes. And what runs the files, by the names.
    """
    runs = {
        kind: run
        for kind in RUNTIMES.values()
        if (run := _written(trained, kind, folder / FORMATS[kind].file, calibration))
    }
    if not runs:
        return [], {}
    split = open_evaluation(trained) if evaluates else None
    images = calibration
    if split:
        images = split.images(np.arange(min(_COMPARED, split.num_examples)))
    with working("comparing with the simulation"):
        changed = _changed(trained, runs, images)
    rows, calls = [], {}
    for runtime, kind in RUNTIMES.items():
        if kind not in runs:
            continue
        row: dict[str, Any] = {"name": f"{name} in {runtime}", "workdir": None}
        row |= {"compared": len(images), "same_answers": len(images) - changed[kind]}
        outputs = runs[kind](images[:1])
        known = split and ("logits" in outputs or "raw_boxes" in outputs)
        metric = trained.task.best_of(trained.config)
        row[metric] = _evaluated(runs[kind], trained, split)[metric] if known else None
        rows.append(row | file_sizes(folder / FORMATS[kind].file))
        calls[row["name"]] = partial(_call, runs[kind], trained)
    return rows, calls


def _changed(
    trained: TrainedModel, runs: Mapping[str, Run], images: np.ndarray
) -> collections.Counter[str]:
    """Of how many images each file says something else than the simulation."""
    several, rules = trained.config.task == "multilabel", trained.task.suppressions()
    plain = plain_form(trained)
    compiled, variables = jax.jit(program_of(plain)), jax.device_put(plain.variables)
    changed: collections.Counter[str] = collections.Counter()
    for start in range(0, len(images), _AT_ONCE):  # all boxes of all images are many
        part = images[start : start + _AT_ONCE]
        ours = jax.device_get(compiled(variables, part))
        for kind, run in runs.items():
            changed[kind] += compared(ours, run(part), several, "float32", rules).changed
    return changed


def _written(trained: TrainedModel, kind: str, path: Path, calibration: np.ndarray) -> Run | None:
    """What runs the file at `path`; None, which is said, if there can be none."""
    request = Request("uint8", (), calibration, ())
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        try:
            check_formats([kind])
            with working(f"writing {path.name}"):
                TABLE[kind].write(trained, unfinished, request)
                run = TABLE[kind].read(unfinished)
                run(calibration[:1])
        except (ConfigError, ExportError, RuntimeError) as error:
            say(f"without {path.name}: {str(error).strip()}")
            return None
        os.replace(unfinished, path)
    return run


def _evaluated(run: Run, trained: TrainedModel, split: Split) -> dict[str, Any]:
    """The evaluation on a split of what gives logits of images, or boxes before suppression."""
    task, rules = trained.task, trained.task.suppressions()

    @jax.jit
    def sums(outputs: Outputs, batch: Batch) -> tuple[Any, Any]:
        predictions = outputs.get("logits")
        if predictions is None:
            predictions = rules[""](RawBoxes(outputs["raw_boxes"], outputs["raw_scores"]))
        _, targets = task.inputs(batch, None, None, train=False)
        observed = task.observe(predictions, targets)
        if observed:
            observed |= {"mask": batch["mask"], "index": batch["index"]}
        return task.evaluation_sums(predictions, targets, batch["mask"]), observed

    def step(_: Any, batch: Batch) -> tuple[Any, Any]:
        return sums(run(np.asarray(batch["image"])), batch)

    program = make_program(task, make_mesh(trained.config.sharding))
    return evaluate_split(program, step, None, split, meter=task.meter(split))


def _call(run: Run, trained: TrainedModel, count: int) -> Callable[[], Any]:
    images = random_images(trained, count)
    return lambda: run(images)
