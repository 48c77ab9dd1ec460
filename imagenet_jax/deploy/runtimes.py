"""A network in int8 as files of other runtimes: what they say, weigh and cost."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.data.catalog import Split
from imagenet_jax.deploy.comparison import Outputs, compared, in_parts
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
_COMPARED, _AT_ONCE = 500, 25  # images of which answers are compared


def in_runtimes(
    trained: TrainedModel, name: str, folder: Path, calibration: np.ndarray, evaluates: bool
) -> tuple[list[dict[str, Any]], dict[str, Call]]:
    """The files of a network in int8, each run by its own runtime.

    What is not installed, or cannot hold the network, is said and left out.

    Args:
      trained: a model with config.model.quantize.
      name: what it is called.
      folder: gets the files.
      calibration: images uint8 [N, S, S, 3], on which the converters find their ranges.
      evaluates: whether to compare on the evaluation split, and not on these images.

    Returns:
      Rows: name, metric (of classes and boxes; else None), compared: images on which it was
      compared with the simulation in floating point, same_answers: of so many it says the same;
      file, bytes, gzip_bytes. And what runs the files, by the names.
    """
    rows, calls = [], {}
    split = open_evaluation(trained) if evaluates else None
    images = calibration
    if split:
        images = split.images(np.arange(min(_COMPARED, split.num_examples)))
    several, rules = trained.config.task == "multilabel", trained.task.suppressions()
    try:
        with working("running the simulation"):
            ours = in_parts(_simulation(plain_form(trained)), images, _AT_ONCE)
    except ExportError as error:
        say(f"without files in int8: {error}")
        return rows, calls
    for runtime, kind in RUNTIMES.items():
        with working(f"writing {FORMATS[kind].file}"):
            run = _written(trained, kind, folder / FORMATS[kind].file, calibration)
        if run is None:
            continue
        row: dict[str, Any] = {"name": f"{name} in {runtime}", "workdir": None}
        theirs = in_parts(run, images, _AT_ONCE)
        changed = compared(ours, theirs, several, "float32", rules).changed
        row |= {"compared": len(images), "same_answers": len(images) - changed}
        metric, known = trained.task.best, "logits" in ours or "raw_boxes" in ours
        row[metric] = _evaluated(run, trained, split)[metric] if split and known else None
        rows.append(row | file_sizes(folder / FORMATS[kind].file))
        calls[row["name"]] = partial(_call, run, trained)
    return rows, calls


def _written(trained: TrainedModel, kind: str, path: Path, calibration: np.ndarray) -> Run | None:
    """What runs the file at `path`; None, which is said, if there can be none."""
    request = Request("uint8", (), calibration, ())
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        try:
            check_formats([kind])
            TABLE[kind].write(trained, unfinished, request)
            run = TABLE[kind].read(unfinished)
        except (ConfigError, ExportError, RuntimeError) as error:
            say(f"without {path.name}: {str(error).strip()}")
            return None
        os.replace(unfinished, path)
    return run


def _simulation(trained: TrainedModel) -> Callable[[np.ndarray], Outputs]:
    compiled = jax.jit(program_of(trained))
    variables = jax.device_put(trained.variables)
    return lambda images: jax.device_get(compiled(variables, images))


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
