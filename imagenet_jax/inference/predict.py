"""What is in photos, as the task of a trained model tells it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.photos import MOST, read_photo, read_pixels
from imagenet_jax.inference.predictor import Predictor
from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_csv, replace_figure
from imagenet_jax.tasks.table import find_task
from imagenet_jax.tasks.task import Task
from imagenet_jax.training.trained import TrainedModel

_DRAWN = 24


def predict_photos(
    trained: TrainedModel, photos: Sequence[str], top: int | None = None
) -> dict[str, Any]:
    """What `Task.answer` tells of each photo.

    Args:
      trained: the model.
      photos: paths of image files.
      top: how many things to tell of a photo, the most probable first; None: as many as the task
        has it.

    Returns:
      task, model, image_size; predictions, a list in the order of the photos of path and what
      the task tells, see there; and errors, a list of path and error of those that cannot be read.

    Raises:
      DataError: if none can be read.
    """
    config, predictor = trained.config, Predictor(trained)
    predictions, errors = [], []
    for start in range(0, len(photos), MOST):
        images, paths, shapes = [], [], []
        for path in photos[start : start + MOST]:
            try:
                pixels, shape = read_photo(path, config)
                images.append(pixels)
                paths.append(str(path))
                shapes.append(shape)
            except DataError as error:
                errors.append({"path": str(path), "error": str(error)})
        if not images:
            continue
        found = predictor.shown(np.stack(images))
        for row, (path, shape) in enumerate(zip(paths, shapes, strict=True)):
            predictions.append({"path": path, **predictor.answer(found, row, top, shape)})
    if not predictions:
        raise DataError("; ".join(error["error"] for error in errors[:5]))
    return {
        "task": config.task,
        "model": trained.name,
        "image_size": config.data.image_size,
        "predictions": predictions,
        "errors": errors,
    }


def predictions_table(result: dict[str, Any]) -> str:
    """What was told of each photo, in lines."""
    task = find_task(result["task"])
    size = result["image_size"]
    lines = [f"{printable(result['model'])}, {size} x {size} pixels"]
    for photo in result["predictions"]:
        lines += ["", printable(photo["path"])]
        lines += [f"  {line}" for line in task.answer_lines(photo)]
    if "picture" in result:
        drawn, count = result["drawn"], len(result["predictions"])
        part = f", the first {drawn} of {count} photos" if drawn < count else ""
        lines += ["", f"drawn in {printable(result['picture'])}{part}"]
    return "\n".join(lines)


def write_predictions(result: dict[str, Any], photos: Sequence[str], path: Path) -> dict[str, Any]:
    """Writes a table: path, what the task says, and the error of a photo that cannot be read.

    Args:
      result: of `predict_photos`.
      photos: what it was asked for, in the order of the rows.
      path: of the CSV file.

    Returns:
      The result; where that failed, with one more of its errors.
    """
    return with_table(result, _rows(result, photos), path)


def with_table(result: dict[str, Any], rows: Iterable[Sequence[str]], path: Path) -> dict[str, Any]:
    """Writes rows into a CSV file; the result, where that failed with one more of its errors."""
    try:
        replace_csv(path, rows)
    except OSError as error:
        failed = {"path": str(path), "error": f"{printable(path)} cannot be written: {error}"}
        return {**result, "errors": [*result["errors"], failed]}
    return result


def _rows(result: dict[str, Any], photos: Sequence[str]) -> Iterator[Sequence[str]]:
    task = find_task(result["task"])
    answers = {photo["path"]: task.answer_columns(photo) for photo in result["predictions"]}
    errors = {error["path"]: error["error"] for error in result["errors"]}
    names = list(next(iter(answers.values())))
    yield ("path", *names, "error")
    for path in map(str, photos):
        found = answers.get(path, {})
        yield (path, *(found.get(name, "") for name in names), errors.get(path, ""))


def write_maps(result: dict[str, Any], folder: Path, task: Task, part: str = "") -> dict[str, Any]:
    """Writes what `Task.write_map` does of each photo into a folder, as NAME.png.

    Args:
      result: of `predict_photos`.
      folder: is made if need be.
      task: which has maps.
      part: what it is called where it is one of several.

    Returns:
      The result, each prediction with map, the path of its file; what could not be written is one
      more of its errors.
    """
    errors, taken = list(result["errors"]), set()
    photos = {Path(photo["path"]).resolve() for photo in result["predictions"]}
    predictions = []
    for photo in result["predictions"]:
        stem, number = Path(photo["path"]).stem, 1
        name = stem
        while name in taken:  # photos of several folders may have one name
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        file = folder / f"{name}.png"
        if file.resolve() in photos:
            raise ConfigError(
                f"--maps={folder}: the map of {photo['path']} would take the place of a photo; "
                "give another folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            task.write_map(photo[part] if part else photo, file)
            predictions.append({**photo, "map": str(file)})
        except OSError as error:
            message = f"{printable(str(file))} cannot be written: {error}"
            errors.append({"path": photo["path"], "error": message})
            predictions.append(photo)
    return {**result, "predictions": predictions, "errors": errors}


def draw_predictions(result: dict[str, Any], path: Path, config: Any) -> dict[str, Any]:
    """Draws the first photos with what was told of them into a PNG.

    Args:
      result: of `predict_photos`.
      path: of the PNG.
      config: of the model: how photos are read.

    Returns:
      The result with picture and drawn, how many photos there are in it; where that failed, with
      one more of its errors: the predictions do not depend on it.
    """
    return with_picture(result, lambda: _draw(result, path, config), path)


def with_picture(result: dict[str, Any], draw: Callable[[], int], path: Path) -> dict[str, Any]:
    """Draws a picture; the result with picture and drawn, which `draw` gives, or where that failed
    with one more of its errors."""
    try:
        drawn = draw()
    except Exception as error:  # matplotlib, its fonts and the disk raise anything
        failed = {"path": str(path), "error": f"{printable(str(path))} cannot be drawn: {error}"}
        return {**result, "errors": [*result["errors"], failed]}
    return {**result, "picture": str(path), "drawn": drawn}


def _draw(result: dict[str, Any], path: Path, config: Any) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    task, shown = find_task(result["task"]), result["predictions"][:_DRAWN]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = plt.figure(figsize=(3.6 * columns, 4.4 * rows), layout="constrained")
    try:
        places = figure.subfigures(rows, columns, squeeze=False).flat
        for place, photo in zip(places, shown, strict=False):
            picture = Image.fromarray(read_pixels(photo["path"], config))
            picture.thumbnail((400, 400))
            task.draw(place, picture, photo)
            name = printable(Path(photo["path"]).name)[:40]
            place.suptitle(name, fontsize=8, parse_math=False)
        figure.suptitle(printable(result["model"])[-80:], fontsize=10, parse_math=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_figure(path, figure)
    finally:
        plt.close(figure)
    return len(shown)
