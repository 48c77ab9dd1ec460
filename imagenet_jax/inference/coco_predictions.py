"""What was found in photos as a file of annotations in COCO's form.

`coco:FILE` reads it, if it lies beside the photos or above them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagenet_jax.atomic import replacing
from imagenet_jax.printable import printable
from imagenet_jax.tasks.mask_pasting import mask_area


def write_coco(
    result: dict[str, Any], class_names: Sequence[str], path: Path, part: str = ""
) -> dict[str, Any]:
    """Writes images, annotations with a score each, and categories, whose numbers begin at 1.

    Args:
      result: of `predict_photos`, by a task that tells objects.
      class_names: by the numbers of the classes.
      path: of the JSON file.
      part: what the task that tells them is called where it is one of several.

    Returns:
      The result; where that failed, with one more of its errors.
    """
    images, annotations = [], []
    for number, photo in enumerate(result["predictions"], 1):
        told = photo[part] if part else photo
        height, width = told["size"]
        name = _name(photo["path"], path)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for one in told["objects"]:
            annotations.append(_annotation(one, len(annotations) + 1, number))
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    except OSError as error:
        failed = {"path": str(path), "error": f"{printable(str(path))} cannot be written: {error}"}
        return {**result, "errors": [*result["errors"], failed]}
    return result


def _name(photo: str, path: Path) -> str:
    """The path of a photo, from the folder on in which `coco:FILE` looks, if it is below that."""
    whole, folder = Path(photo).absolute(), path.absolute().parent
    folder = folder.parent if folder.name.lower() == "annotations" else folder
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else photo


def _annotation(one: Mapping[str, Any], number: int, image: int) -> dict[str, Any]:
    left, top, right, bottom = one["box"]
    box = [round(side, 2) for side in (left, top, right - left, bottom - top)]
    area, mask = round(box[2] * box[3], 2), {}
    if "mask" in one:
        area, mask = mask_area(one["mask"]), {"segmentation": one["mask"]}
    return {
        "id": number,
        "image_id": image,
        "category_id": one["label"] + 1,
        "bbox": box,
        "area": area,
        "iscrowd": 0,
        "score": one["score"],
        **mask,
    }
