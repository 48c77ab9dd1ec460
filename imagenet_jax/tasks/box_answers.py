"""What is told of a photo in which things were found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.models.detection import Detections
from imagenet_jax.reports.box_pictures import draw_boxes


def told(
    prediction: Detections,
    class_names: Sequence[str],
    top: int,
    shape: tuple[int, int] | None,
    preprocess: Any,
) -> dict[str, Any]:
    """objects: the `top` best, each with label, class_name, score, and box, its left, top, right
    and bottom in pixels of the photo; size, its height and width.

    Args:
      prediction: of one image, in NumPy.
      class_names: by the numbers of the classes.
      top: how many.
      shape: height and width of the photo; None: boxes are told as the network sees it.
      preprocess: a `Preprocess`, by which photos are made ready; None without a shape.
    """
    there = prediction.scores > 0
    boxes = np.float64(prediction.boxes[there][:top])
    boxes = preprocess.restore_boxes(boxes, shape) if shape else boxes
    labels, scores = prediction.classes[there][:top], prediction.scores[there][:top]
    things = [
        {
            "label": label,
            "class_name": class_names[label],
            "score": score,
            "box": [round(side, 2) for side in box],
        }
        for label, score, box in zip(labels.tolist(), scores.tolist(), boxes.tolist(), strict=True)
    ]
    return {"objects": things, **({"size": list(map(int, shape))} if shape else {})}


def answer_lines(answer: Mapping[str, Any]) -> list[str]:
    """See `Task.answer_lines`."""
    rows = []
    for one in answer["objects"]:
        box = ", ".join(f"{side:.0f}" for side in one["box"])
        rows.append(f"{one['score']:6.1%}  {one['class_name']}  ({box})")
    return rows or ["nothing"]


def answer_columns(answer: Mapping[str, Any]) -> dict[str, str]:
    """See `Task.answer_columns`."""
    things = answer["objects"]
    return {
        "classes": "; ".join(one["class_name"] for one in things),
        "scores": "; ".join(f"{one['score']:.6f}" for one in things),
        "boxes": "; ".join(" ".join(map(str, one["box"])) for one in things),
    }


def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
    """See `Task.draw`."""
    axes = figure.subplots()
    axes.imshow(np.asarray(picture))
    axes.set_axis_off()
    height, width = answer.get("size", (picture.height, picture.width))
    scale = np.array([picture.width / width, picture.height / height] * 2)
    draw_boxes(axes, answer["objects"], scale)
