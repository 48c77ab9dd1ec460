"""`launch.py export`: files of a trained model, published if they say what it says."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import imagenet_jax
from imagenet_jax.atomic import replace_text
from imagenet_jax.deploy import stablehlo
from imagenet_jax.deploy.comparison import Outputs, check_difference, compared, in_parts
from imagenet_jax.deploy.folder import FACTS, FORMATS, STABLEHLO, WEIGHTS, check_out, publish
from imagenet_jax.deploy.program import program_of
from imagenet_jax.errors import ConfigError, DataError, ExportError
from imagenet_jax.inference.photos import read_photo
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks import task_split
from imagenet_jax.tasks.task import Task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.files import read_weights, write_safetensors
from imagenet_jax.weights.torch_layout import import_arrays

_IMAGES, _AT_ONCE = 32, 8  # of the evaluation split that outputs are compared on; at once
_TIMED, _REPEATS = (1, 8), 5  # batch sizes of which the latency is measured
_OF_DATA = (
    *("image_size", "eval_crop", "eval_crop_fraction", "eval_resize", "resize_antialias"),
    *("pad_fill", "exif_orientation"),
)


def export(
    trained: TrainedModel,
    out: Path,
    *,
    formats: Sequence[str] = FORMATS,
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
      photos: files on which outputs are compared, the first 32; (): the first examples of the
        evaluation split, or, where that is not here, the two photos that come with scikit-learn.

    Returns:
      What export.json has, and out: model, task, class_names, titles (what people call classes of
      images), input, outputs, preprocessing, compared_on, formats (file, bytes, sha256,
      largest_difference, changed_decisions, latency_ms by batch size) and versions.

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
    images, compared_on = _images(trained, photos)
    variables = jax.tree.map(jnp.asarray, trained.variables)
    run = jax.jit(program_of(trained))
    with working("running the model"):
        ours = in_parts(lambda x: jax.device_get(run(variables, x)), images, _AT_ONCE)
    facts = _facts(trained, inputs, ours)
    facts |= {"compared_on": f"{len(images)} images: {compared_on}", "formats": {}}
    how = inputs, platforms, images, ours
    partial = out.with_name(f".{out.name[:40]}.{uuid.uuid4().hex[:12]}.partial")
    try:
        partial.mkdir(parents=True)
        for name in formats:
            with working(f"exporting {name}"):
                facts["formats"][name] = _WRITERS[name](trained, partial, *how)
        replace_text(partial / FACTS, json.dumps(facts, indent=1) + "\n")
        publish(partial, out)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {**facts, "out": str(out)}


def _images(trained: TrainedModel, photos: Sequence[str]) -> tuple[np.ndarray, str]:
    """Images as the model sees them uint8 [N, S, S, 3], and what they are."""
    config = trained.config
    if photos:
        found = [read_photo(path, config)[0] for path in photos[:_IMAGES]]
        return np.stack(found), f"{len(found)} of {len(photos)} photos that were given"
    if trained.weights is None:
        try:
            split = task_split(config, train=False)
            if count := min(_IMAGES, split.num_examples):
                return split.images(np.arange(count)), f"{config.data.name}, {split.name}"
        except DataError as error:
            say(f"warning: the run's data are not here ({error})")
    import sklearn.datasets
    from PIL import Image

    folder = Path(sklearn.datasets.__file__).parent / "images"
    side = (config.data.image_size,) * 2  # whatever the run's crop is: these are photos of any kind
    found = [Image.open(folder / name).resize(side) for name in ("china.jpg", "flower.jpg")]
    return np.stack([np.asarray(one) for one in found]), "the photos that come with scikit-learn"


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
        "outputs": {
            name: {"shape": [None, *array.shape[1:]], "dtype": str(array.dtype)}
            for name, array in ours.items()
        },
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


def _class_names(task: Task) -> Any:
    """Those of a task; of several {task: names}."""
    parts = getattr(task, "tasks", None)
    if parts:
        return {name: _class_names(part) for name, part in parts.items()}
    return list(getattr(task, "class_names", ()))


def _write_stablehlo(
    trained: TrainedModel,
    folder: Path,
    inputs: str,
    platforms: Sequence[str],
    images: np.ndarray,
    ours: Outputs,
) -> dict[str, Any]:
    data = stablehlo.to_stablehlo(trained, inputs, platforms)
    file = folder / STABLEHLO
    file.write_bytes(data)
    here = jax_export.default_export_platform()
    facts = {**_file_facts(file), "platforms": list(platforms)}
    if here not in platforms:
        raise ExportError(
            f"--platforms={','.join(platforms)}: this machine has {here}, so that nobody could say "
            f"whether the file is right; add {here}"
        )
    run = stablehlo.read_stablehlo(file.read_bytes())
    given = images if inputs == "uint8" else np.asarray(trained.task.image_inputs(images))
    dtype = trained.config.model.dtype
    several = trained.config.task == "multilabel"
    found = compared(ours, in_parts(run, given, _AT_ONCE), several, dtype)
    check_difference(found, f"the StableHLO file of {trained.name}", dtype)
    differences = {"largest_difference": found.largest, "changed_decisions": found.changed}
    return facts | differences | {"latency_ms": _latencies(run, given)}


def _write_safetensors(
    trained: TrainedModel,
    folder: Path,
    inputs: str,
    platforms: Sequence[str],
    images: np.ndarray,
    ours: Outputs,
) -> dict[str, Any]:
    """The weights in torch's layout, with the names of the classes; compared by their bits."""
    del inputs, platforms, images, ours
    file = folder / WEIGHTS
    names = {"class_names": json.dumps(list(getattr(trained.task, "class_names", ())))}
    write_safetensors(file, trained.variables, {"model": json.dumps(trained.name), **names})
    shapes = variable_shapes(trained.model, trained.config.data.image_size)
    again = import_arrays(shapes, read_weights(file).arrays)
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), b), trained.variables, again)
    if not all(jax.tree.leaves(same)):
        raise ExportError(f"the weights of {trained.name} are others when they are read again")
    return {**_file_facts(file), "largest_difference": 0.0}


_WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "stablehlo": _write_stablehlo,
    "safetensors": _write_safetensors,
}


def _file_facts(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"file": file.name, "bytes": os.path.getsize(file), "sha256": digest}


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
    lines = [f"{result['model']} is in {result['out']}, compared on {result['compared_on']}"]
    for name, facts in result["formats"].items():
        line = f"  {facts['file']:18} {facts['bytes'] / 1e6:8,.1f} MB"
        if "latency_ms" in facts:
            times = ", ".join(f"{ms:,.1f} ms for {n}" for n, ms in facts["latency_ms"].items())
            line += f"  {times}; largest difference {facts['largest_difference']:.1e}"
        lines.append(line if name != "safetensors" else f"{line}  the same bits")
    return "\n".join(lines)
