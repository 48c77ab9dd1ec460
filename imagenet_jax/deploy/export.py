"""`launch.py export`: files of a trained model, published if they say what it says."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import imagenet_jax
from imagenet_jax.atomic import replace_text
from imagenet_jax.data.bank import evenly
from imagenet_jax.deploy import samples
from imagenet_jax.deploy.comparison import (
    TOLERANCE,
    Outputs,
    check_decisions,
    check_difference,
    check_rounding,
    compared,
    in_parts,
)
from imagenet_jax.deploy.folder import (
    DEFAULT_FORMATS,
    FACTS,
    FORMATS,
    check_formats,
    check_out,
    files_of,
    publish,
)
from imagenet_jax.deploy.formats import TABLE, Request
from imagenet_jax.deploy.program import plain_form, program_of
from imagenet_jax.errors import ConfigError, DataError, ExportError
from imagenet_jax.inference.photos import read_photo
from imagenet_jax.tasks import task_split
from imagenet_jax.tasks.task import Task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.trained import TrainedModel

_IMAGES, _AT_ONCE = 32, 8  # of the evaluation split that outputs are compared on; at once
_CALIBRATION = 128  # further ones, on which the ranges of integers are found
_TIMED, _REPEATS = (1, 32), 5  # batch sizes of which the latency is measured
_OF_DATA = (
    *("image_size", "eval_crop", "eval_crop_fraction", "eval_resize", "resize_antialias"),
    *("pad_fill", "exif_orientation"),
)


def export(
    trained: TrainedModel,
    out: Path,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    inputs: str = "uint8",
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    photos: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes a folder with a model in some formats, and export.json about them.

    Each file is read back and run on images before the folder gets its name; an export that was
    there before is replaced.

    Args:
      trained: the model.
      out: the folder; made.
      formats: of `folder.FORMATS`.
      inputs: see `program.program_of`.
      platforms: of a StableHLO file, see `folder.PLATFORMS`.
      photos: files on which outputs are compared, the first 32, and ranges of integers found, the
        next 128; (): the first examples of the
        evaluation split, or, where that is not here, the two photos that come with scikit-learn.

    Returns:
      What export.json has, and out: model, task, class_names, titles (what people call classes of
      images), input, outputs, preprocessing, compared_on, latency_ms of this program by batch
      size, formats (file, bytes, sha256, largest_difference, changed_decisions, latency_ms) and
      versions.

    Raises:
      ConfigError: if `out` is there and has other files, or there are several processes.
      ExportError: for a model that cannot be exported, an export that says something else, or a
        folder that cannot be written.
      DataError: for a photo that cannot be read.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"export is for one process, and this job has {jax.process_count()}")
    out = Path(os.path.realpath(out))
    check_out(out)
    check_formats(formats)
    plain = any(TABLE[name].plain for name in formats)
    is_split = plain and bool(trained.task.suppressions())
    calibrated = any(FORMATS[name].calibrated for name in formats)
    found, compared_on = _images(trained, photos, _IMAGES + _CALIBRATION * calibrated)
    images, calibration = found[:_IMAGES], found[_IMAGES:]
    if not len(calibration):  # there are no others
        calibration = images
    if inputs != "uint8":
        calibration = np.asarray(trained.task.image_inputs(calibration))
    with working("running the model"):
        run = _compiled(trained)
        references = {False: in_parts(run, images, _AT_ONCE)}
        facts = _facts(trained, inputs, references[False])
        facts |= {"compared_on": f"{len(images)} images: {compared_on}"}
        facts |= {"latency_ms": _latencies(run, images), "formats": {}}
        if is_split or (plain and trained.config.model.dtype != "float32"):
            references[True] = in_parts(_compiled(plain_form(trained)), images, _AT_ONCE)
    files = [Path(name) for name in photos[:_AT_ONCE]] or samples.sample_photos()
    encoded = [file.read_bytes() for file in files]
    request = Request(inputs, platforms, calibration, encoded)
    partial = out.with_name(f".{out.name[:40]}.{uuid.uuid4().hex[:12]}.partial")
    try:
        partial.mkdir(parents=True)
        for name in formats:
            with working(f"exporting {name}"):
                facts["formats"][name] = _write(name, trained, partial, request, images, references)
        replace_text(partial / FACTS, json.dumps(facts, indent=1) + "\n")
        publish(partial, out)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {**facts, "out": str(out)}


def _images(trained: TrainedModel, photos: Sequence[str], most: int) -> tuple[np.ndarray, str]:
    """At most so many images as the model sees them uint8 [N, S, S, 3], and what they are."""
    config = trained.config
    if photos:
        found = [read_photo(path, config)[0] for path in photos[:most]]
        return np.stack(found), "the first photos that were given"
    if trained.weights is None:
        try:
            split = task_split(config, train=False)
            if count := min(most, split.num_examples):
                chosen = evenly(split.num_examples, count, config.seed)  # of each class its share
                chosen = np.random.default_rng(config.seed).permutation(chosen)
                return split.images(chosen), f"{config.data.name}, {split.name}"
        except DataError as error:
            say(f"warning: the run's data are not here ({error})")
    return samples.sample_images(config.data.image_size), samples.ABOUT


def _facts(trained: TrainedModel, inputs: str, ours: Outputs) -> dict[str, Any]:
    config, task = trained.config, trained.task
    size = config.data.image_size
    levels = "0 to 255, RGB" if inputs == "uint8" else "(level / 255 - mean) / std, RGB"
    versions = ("jax", "jaxlib", "flax", "numpy")
    return {
        "model": trained.name,
        "architecture": config.model.name,
        "task": config.task,
        "class_names": _class_names(task),
        **({"titles": task.titles} if hasattr(task, "titles") else {}),
        "input": {"shape": [None, size, size, 3], "dtype": inputs, "levels": levels},
        "outputs": _outputs(ours),
        "preprocessing": {
            **{name: config.data[name] for name in _OF_DATA},
            "resize_method": config.data.eval_resize_method or config.data.resize_method,
            "mean": list(config.augment.mean),
            "std": list(config.augment.std),
        },
        "versions": {
            "imagenet_jax": imagenet_jax.__version__,
            **{name: importlib.metadata.version(name) for name in versions},
        },
    }


def _outputs(ours: Outputs) -> dict[str, Any]:
    return {
        name: {"shape": [None, *array.shape[1:]], "dtype": str(array.dtype)}
        for name, array in ours.items()
    }


def _class_names(task: Task) -> Any:
    """Those of a task; of several {task: names}."""
    parts = getattr(task, "tasks", None)
    if parts:
        return {name: _class_names(part) for name, part in parts.items()}
    return list(getattr(task, "class_names", ()))


def _compiled(trained: TrainedModel) -> Callable[[np.ndarray], Outputs]:
    variables = jax.tree.map(jnp.asarray, trained.variables)
    compiled = jax.jit(program_of(trained))
    return lambda images: jax.device_get(compiled(variables, images))


def _write(
    name: str,
    trained: TrainedModel,
    folder: Path,
    request: Request,
    images: np.ndarray,
    references: Mapping[bool, Outputs],
) -> dict[str, Any]:
    """Writes a format and compares it with what the model says, or its `plain_form` where that is
    another one; returns what export.json says of it."""
    path, how = folder / FORMATS[name].file, TABLE[name]
    ours = references[how.plain and True in references]
    of_model = "float32" if how.plain else trained.config.model.dtype
    rules = trained.task.suppressions() if how.plain else {}
    facts = how.write(trained, path, request)
    facts = {**_file_facts(path), **facts}
    if rules:
        each = {part: rule.facts() for part, rule in rules.items()}
        facts |= {"outputs": _outputs(ours), "suppression": each.get("", each)}
    if how.read is None:
        return facts
    given = images if request.inputs == "uint8" else np.asarray(trained.task.image_inputs(images))
    dtype = max(how.dtype or "float32", of_model, key=TOLERANCE.__getitem__)
    several = trained.config.task == "multilabel"
    what = f"{FORMATS[name].file} of {trained.name}"
    try:
        run = how.read(path)
        theirs = in_parts(run, given, _AT_ONCE)
    except RuntimeError as error:  # of its runtime, which knows what it can do
        raise ExportError(f"{what} does not run: {str(error).strip()}") from error
    found = compared(ours, theirs, several, dtype, rules)
    if not how.whole:
        check_decisions(found, what)
    elif trained.config.model.quantize:
        check_rounding(found, what)
    else:
        check_difference(found, what, dtype)
    differences = {"largest_difference": found.largest, "changed_decisions": found.changed}
    if of_model != trained.config.model.dtype:
        differences["computes_in"] = of_model
    return facts | differences | {"latency_ms": _latencies(run, given)}


def _file_facts(file: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for part in files_of(file):  # of a folder all of them, in their order
        data = part.read_bytes()
        size += len(data)
        digest.update(data)
    return {"file": file.name, "bytes": size, "sha256": digest.hexdigest()}


def _latencies(run: Callable[[np.ndarray], Any], images: np.ndarray) -> dict[str, float]:
    """The median of some runs in milliseconds, of one image and of several."""
    found = {}
    for count in _TIMED:
        batch = np.resize(images, (count, *images.shape[1:]))
        run(batch)  # compiles
        seconds = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            run(batch)
            seconds.append(time.perf_counter() - start)
        found[str(count)] = round(1000 * statistics.median(seconds), 2)
    return found


def export_text(result: dict[str, Any]) -> str:
    """What `export` returned, for people."""
    lines = [f"{result['model']} is in {result['out']}, compared on {result['compared_on']}", ""]
    many = max(map(int, result["latency_ms"]))
    head = f"  {'':20} {'size':>10} {'1 image':>11} {f'{many} images':>11}  "
    lines.append(f"{head}largest difference, other answers")
    lines.append(f"  {'this program':20} {'':10} {_times(result)}")
    for name, facts in result["formats"].items():
        line = f"  {facts['file']:20} {facts['bytes'] / 1e6:7,.1f} MB"
        if "latency_ms" in facts:
            line += f" {_times(facts)}  {facts['largest_difference']:.1e}, "
            line += f"{facts['changed_decisions']}"
        lines.append(line if name != "safetensors" else f"{line}  the same bits")
    if split := [facts["file"] for facts in result["formats"].values() if "suppression" in facts]:
        lines += ["", f"before suppression, which export.json describes: {', '.join(split)}"]
    return "\n".join(lines)


def _times(facts: dict[str, Any]) -> str:
    return " ".join(f"{ms:8,.1f} ms" for ms in facts["latency_ms"].values())
