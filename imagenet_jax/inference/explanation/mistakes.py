"""A picture of the images that an evaluation found most wrong, each with its heat maps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.explanation.explainer import Explainer
from imagenet_jax.inference.explanation.methods import GRAD_CAM
from imagenet_jax.inference.explanation.pictures import heat
from imagenet_jax.inference.explanation.targets import Wanted, target_of
from imagenet_jax.printable import printable
from imagenet_jax.reports.box_mistakes import mistakes_of, sure_score, worst_images
from imagenet_jax.reports.box_pictures import boxed
from imagenet_jax.reports.mistake_pictures import draw_images, short
from imagenet_jax.reports.palette import ground, overlaid
from imagenet_jax.tasks.classes import ClassTask
from imagenet_jax.tasks.task import Meter, Task
from imagenet_jax.training.trained import TrainedModel

NAME = "explained.png"
_IMAGES = 12
_LETTERS = 20  # of a class

Line = tuple[str, str]  # words and their colour


class _Tile(NamedTuple):
    """What is explained of an image.

    Attributes:
      index: of the image.
      wanted: see there.
      caption: of its heat map.
      first: what is drawn in the place of the image itself, before its first map.
    """

    index: int
    wanted: Wanted
    caption: Line
    first: Callable[[np.ndarray], np.ndarray] | None = None


def check_explained(task: Task) -> None:
    """Raises ConfigError where mistakes cannot be explained."""
    if task.is_open_set or task.gives_features:
        target_of(task)  # which says why not
    if hasattr(task, "tasks"):
        raise ConfigError("--explain is for one task; `explain --part=TASK` explains photos")
    views = task.config.eval.tta or tuple(map(float, task.config.eval.scales)) != (1.0,)
    if task.has_boxes and views:
        raise ConfigError(
            "--explain explains boxes of the images themselves; set --config.eval.tta= and "
            "--config.eval.scales=1"
        )


def draw_explained(trained: TrainedModel, meter: Meter, split: Split, path: Path) -> bool:
    """Draws the most wrong images and, by Grad-CAM, what their wrong answers depend on.

    Of a classifier there is a map of the class that was predicted and one of the true class; of
    several labels one of the most certain mistake; of a segmenter one of the class that was
    predicted for the most pixels wrongly; of a detector one of the best box that is wrong.

    Args:
      trained: the model.
      meter: of its task, was given all examples.
      split: that was evaluated.
      path: of the PNG.

    Returns:
      Whether there is anything to draw.
    """
    tiles = list(_tiles(trained.task, meter, split))
    if not tiles:
        return False
    images = split.images(np.array([tile.index for tile in tiles]))
    found = Explainer(trained).explain_each(images, [tile.wanted for tile in tiles], [GRAD_CAM])
    drawn, captions, before = [], [], None
    for tile, image, one in zip(tiles, images, found, strict=True):
        if isinstance(one, DataError):
            continue
        if tile.index != before:
            drawn.append(tile.first(image) if tile.first else image)
            name = printable(split.example_name(tile.index))
            captions.append([("", "gray"), (name[-30:], "gray")])
        before = tile.index
        drawn.append(heat(image, one.maps[GRAD_CAM]))
        probability = one.target.facts.get("probability")
        words = f"score {one.score:.3g}" if probability is None else f"{probability:.1%}"
        captions.append([tile.caption, (words, "gray")])
    title = f"{trained.name}, {split.name}\nwhat the most wrong answers depend on, by Grad-CAM"
    draw_images(np.stack(drawn), captions, title, path)
    return True


def _tiles(task: Any, meter: Any, split: Split) -> Iterator[_Tile]:
    if task.has_boxes:
        return _of_boxes(task, meter)
    if task.has_maps:
        return _of_segments(task, meter, split)
    return _of_labels(task, meter) if task.reads == ("labels",) else _of_classes(task, meter)


def _of_classes(task: ClassTask, meter: Any) -> Iterator[_Tile]:
    found = task.mistakes(meter)
    for place in found.worst_images(_IMAGES):
        index = int(found.index[place])
        for label, color in (
            (found.predicted[place], "firebrick"),
            (found.label[place], "darkgreen"),
        ):
            caption = (short(task.title(int(label)), _LETTERS), color)
            yield _Tile(index, Wanted(int(label)), caption)


def _of_labels(task: ClassTask, meter: Any) -> Iterator[_Tile]:
    found = task.mistakes(meter)
    for place in found.worst_images(_IMAGES):
        there, said = found.labels[place], found.predicted[place]
        share = found.probability[place]
        certainty = np.where(there != said, np.where(said, share, 1 - share), -1)
        label = int(certainty.argmax())
        color = "firebrick" if said[label] else "tab:blue"
        caption = (short(task.title(label), _LETTERS), color)
        yield _Tile(int(found.index[place]), Wanted(label), caption)


def _of_segments(task: Any, meter: Any, split: Split) -> Iterator[_Tile]:
    worst, count = meter.worst(), len(task.class_names)
    if not worst:
        return
    true = split.examples(np.array([index for index, *_ in worst]))["segmentation"]
    for (index, _, predicted), levels in zip(worst, true, strict=True):
        wrong = (predicted != levels) & (levels < count)
        if not wrong.any():
            continue
        label = int(np.bincount(predicted[wrong], minlength=count).argmax())

        def painted(image: np.ndarray, levels: np.ndarray = predicted) -> np.ndarray:
            return overlaid(image, levels, ground(task.class_names))

        share = (wrong & (predicted == label)).sum() / max((predicted == label).sum(), 1)
        caption = (f"{short(task.class_names[label], 12)} {share:.0%} wrong", "firebrick")
        yield _Tile(index, Wanted(label), caption, painted)


def _of_boxes(task: Any, meter: Any) -> Iterator[_Tile]:
    images = {one.index: one for one in meter.images()}
    sure = sure_score(list(images.values()))
    for index, *_ in worst_images(meter):
        one = images[index]
        _, wrong = mistakes_of(one, sure)
        if not wrong:
            continue
        label, box = int(one.labels[wrong[0]]), one.found[wrong[:1]]
        places = meter.preprocess.place_boxes(box, one.size)

        def framed(
            image: np.ndarray, places: np.ndarray = places, label: int = label
        ) -> np.ndarray:
            return boxed(image, places, [label])

        caption = (short(task.class_names[label], _LETTERS), "firebrick")
        yield _Tile(index, Wanted(box=1 + wrong[0]), caption, framed)
