"""What is in a photo: the most probable classes of image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax import augment
from imagenet_jax.data.order import even_batch
from imagenet_jax.errors import DataError
from imagenet_jax.inference.classifier import Classifier
from imagenet_jax.reports.writers import replace_figure

_MOST = 32  # photos at once


def predict(classifier: Classifier, photos: Sequence[str], top: int = 5) -> dict[str, Any]:
    """The `top` most probable classes of each photo.

    Args:
      classifier: see `classifier.Classifier`.
      photos: paths of image files.
      top: how many classes to tell.

    Returns:
      model, image_size and predictions, a list in the order of the photos of path and classes,
      a list with the most probable first of label, class_name, title and probability (0 to 1).

    Raises:
      DataError: for a file that is missing or no image.
    """
    config, model = classifier.config, classifier.model

    @jax.jit
    def probabilities(variables: Any, images: jax.Array) -> jax.Array:
        inputs = augment.eval_image({"image": images}, config.augment)
        return jax.nn.softmax(model.apply(variables, inputs, train=False))

    predictions, size = [], even_batch(len(photos), _MOST)
    for start in range(0, len(photos), size):
        part = photos[start : start + size]
        images = [read_photo(path, config) for path in part]
        images += [images[-1]] * (size - len(images))  # a shorter last batch is not compiled again
        found = np.asarray(probabilities(classifier.variables, np.stack(images)))
        for path, row in zip(part, found[: len(part)], strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            classes = [
                {
                    "label": int(label),
                    "class_name": classifier.class_names[label],
                    "title": classifier.titles[label],
                    "probability": float(row[label]),
                }
                for label in order
            ]
            predictions.append({"path": str(path), "classes": classes})
    size = config.data.image_size
    return {"model": classifier.name, "image_size": size, "predictions": predictions}


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
    """The classes of each photo, a line each."""
    lines = [f"{result['model']}, {result['image_size']} x {result['image_size']} pixels"]
    for photo in result["predictions"]:
        lines += ["", photo["path"]]
        for found in photo["classes"]:
            bar = "#" * round(20 * found["probability"])
            lines.append(f"  {found['probability']:6.1%}  {bar:20}  {found['title']}")
    if "picture" in result:
        lines += ["", f"drawn in {result['picture']}"]
    return "\n".join(lines)


def draw_predictions(result: dict[str, Any], path: Path, most: int = 24) -> None:
    """Draws the first `most` photos with their classes into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image, ImageOps

    shown = result["predictions"][:most]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        figsize=(3.6 * columns, 4.4 * rows),
        squeeze=False,
        height_ratios=[3, 1.4] * rows,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for place, photo in enumerate(shown):
        row, column = divmod(place, columns)
        with Image.open(photo["path"]) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
            picture.thumbnail((400, 400))
        axes[2 * row, column].imshow(np.asarray(picture))
        axes[2 * row, column].set_title(Path(photo["path"]).name[:40], fontsize=8)
        bars = axes[2 * row + 1, column]
        classes = photo["classes"][::-1]
        values = [found["probability"] for found in classes]
        bars.barh(range(len(classes)), values, color="tab:blue", alpha=0.4)
        for height, found in enumerate(classes):
            text = f"{found['title'][:34]}  {found['probability']:.1%}"
            bars.text(0.01, height, text, va="center", fontsize=8)
        bars.set_xlim(0, 1)
    figure.suptitle(result["model"], fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_figure(path, figure)
    plt.close(figure)
