"""What is in photos, as the task of a trained model tells it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.data.order import even_batch
from imagenet_jax.errors import DataError
from imagenet_jax.reports.writers import replace_figure
from imagenet_jax.tasks.table import find_task
from imagenet_jax.training.trained import TrainedModel

_MOST = 32  # photos at once


def predict_photos(trained: TrainedModel, photos: Sequence[str], top: int = 5) -> dict[str, Any]:
    """What `Task.answer` tells of each photo.

    Args:
      trained: the model.
      photos: paths of image files.
      top: how many things to tell of a photo, the most probable first.

    Returns:
      task, model, image_size and predictions, a list in the order of the photos of path and what
      the task tells, see there.

    Raises:
      DataError: for a file that is missing or no image.
    """
    task, model, config = trained.task, trained.model, trained.config

    @jax.jit
    def outputs(variables: Any, images: jax.Array) -> Any:
        apply = partial(model.apply, variables, train=False)
        return task.predict(apply, task.image_inputs(images))

    predictions, size = [], even_batch(len(photos), _MOST)
    for start in range(0, len(photos), size):
        part = photos[start : start + size]
        images = [read_photo(path, config) for path in part]
        images += [images[-1]] * (size - len(images))  # a shorter last batch is not compiled again
        found = jax.device_get(outputs(trained.variables, np.stack(images)))
        for row, path in enumerate(part):
            of_photo = jax.tree.map(lambda array, row=row: array[row], found)
            predictions.append({"path": str(path), **task.answer(of_photo, top)})
    return {
        "task": config.task,
        "model": trained.name,
        "image_size": config.data.image_size,
        "predictions": predictions,
    }


def read_photo(path: str, config: Any) -> np.ndarray:
    """A photo as the model sees it before it is normalised, uint8 [S, S, 3].

    Raises:
      DataError: for a file that is missing or no image.
    """
    from imagenet_jax.data.images.decode import decode_image
    from imagenet_jax.data.images.preprocess import Preprocess

    data = config.data
    preprocess = Preprocess(data, config.seed, train=False)
    out = np.empty((data.image_size, data.image_size, 3), np.uint8)
    try:
        pixels = decode_image(
            Path(path).expanduser().read_bytes(),
            exif_orientation=data.exif_orientation,
            max_pixels=data.max_pixels,
        )
        zero = np.zeros(1, np.int64)
        (box,) = preprocess.boxes(np.array([pixels.shape[:2]]), zero, zero)
        top, left, height, width = box
        preprocess.finish(pixels[top : top + height, left : left + width], out, 0, 0)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return out


def predictions_table(result: dict[str, Any]) -> str:
    """What was told of each photo, in lines."""
    task = find_task(result["task"])
    lines = [f"{result['model']}, {result['image_size']} x {result['image_size']} pixels"]
    for photo in result["predictions"]:
        lines += ["", photo["path"], *(f"  {line}" for line in task.answer_lines(photo))]
    if "picture" in result:
        lines += ["", f"drawn in {result['picture']}"]
    return "\n".join(lines)


def draw_predictions(result: dict[str, Any], path: Path, most: int = 24) -> None:
    """Draws the first `most` photos with what was told of them into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image, ImageOps

    task, shown = find_task(result["task"]), result["predictions"][:most]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = plt.figure(figsize=(3.6 * columns, 4.4 * rows), layout="constrained")
    places = figure.subfigures(rows, columns, squeeze=False).flat
    for place, photo in zip(places, shown, strict=False):
        with Image.open(photo["path"]) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
            picture.thumbnail((400, 400))
        task.draw(place, picture, photo)
        place.suptitle(Path(photo["path"]).name[:40], fontsize=8)
    figure.suptitle(result["model"], fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_figure(path, figure)
    plt.close(figure)
