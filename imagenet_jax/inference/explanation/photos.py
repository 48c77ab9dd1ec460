"""Explanations of photos in files: facts, arrays, and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.errors import DataError
from imagenet_jax.inference.explanation.explainer import Explainer, Explanation
from imagenet_jax.inference.photos import MOST, read_photo
from imagenet_jax.printable import printable

_GAP = 0.1  # of integrated gradients, over the score's rise, from which on it is said


class ExplainedPhoto(NamedTuple):
    """A photo and what was found.

    Attributes:
      path: of the file.
      shape: its height and width.
      seen: left, top, right and bottom of what the network sees, which are the edges of the maps,
        in pixels of the photo; float64 [4]. It may reach beyond the photo.
      explanation: of the answer.
    """

    path: str
    shape: tuple[int, int]
    seen: np.ndarray
    explanation: Explanation


def explain_photos(
    explainer: Explainer,
    photos: Sequence[str],
    methods: Sequence[str] = (),
    *,
    of_class: str | int = "",
    box: int = 1,
    kept: int | None = None,
) -> tuple[dict[str, Any], list[ExplainedPhoto]]:
    """Explains what a model says of each photo.

    Args:
      explainer: of the model.
      photos: paths of image files.
      methods, of_class, box: see `Explainer.explain`.
      kept: how many photos to give back with their maps; None: all.

    Returns:
      What JSON says: task, model, image_size, methods; explanations, in the order of the photos,
      see `photo_facts`; and errors, a list of path and error of those that cannot be read or do not
      have what is asked for. And the first photos.

    Raises:
      ConfigError: as `Explainer.explain`.
      DataError: if there is no explanation.
    """
    methods, _ = explainer.what(methods, of_class, box)
    asked = {"methods": methods, "of_class": of_class, "box": box}
    config = explainer.target.task.config
    explained, facts, errors = [], [], []
    for start in range(0, len(photos), MOST):
        images, read = [], []
        for path in photos[start : start + MOST]:
            try:
                pixels, shape = read_photo(path, config)
                images.append(pixels)
                read.append((str(path), shape))
            except DataError as error:
                errors.append({"path": str(path), "error": str(error)})
        found = explainer.explain(np.stack(images), **asked) if images else []
        for (path, shape), one in zip(read, found, strict=True):
            if isinstance(one, DataError):
                errors.append({"path": path, "error": f"{printable(path)}: {one}"})
                continue
            photo = ExplainedPhoto(path, shape, seen_edges(shape, config), one)
            facts.append(photo_facts(photo))
            if kept is None or len(explained) < kept:
                explained.append(photo)
    if not facts:
        raise DataError("; ".join(error["error"] for error in errors[:5]))
    result = {
        "task": config.task,
        "model": explainer.name,
        "image_size": config.data.image_size,
        "methods": methods,
        "explanations": facts,
        "errors": errors,
    }
    return result, explained


def seen_edges(shape: tuple[int, int], config: Any) -> np.ndarray:
    from imagenet_jax.data.images.preprocess import Preprocess

    height, width = shape
    preprocess = Preprocess(config.data, config.seed, train=False)
    whole = preprocess.place_boxes(np.array([[0, 0, width, height]], np.float64), shape)[0]
    scale = (whole[2:] - whole[:2]) / (width, height)
    corners = np.array([[0, 0], [config.data.image_size] * 2])
    return ((corners - whole[:2]) / scale).ravel()


def photo_facts(photo: ExplainedPhoto) -> dict[str, Any]:
    """What JSON says of a photo.

    path; size, its height and width; seen; target, what is explained (label, class_name, title, and
    probability of a class, share of the pixels of a segment, box in pixels of the photo); score,
    which is its logit, or of a box its score; methods, by name maximum, the place of the map's
    maximum in pixels of the photo; half_area, the smallest share of the pixels that holds half of
    the map's positive part, None without any; inside, the share of that part within the box or the
    segment; and what the method adds.
    """
    one = photo.explanation
    target = dict(one.target.facts)
    if "box" in target:
        box = np.array(target["box"]).reshape(2, 2)
        height, width = photo.shape
        corners = np.clip(_in_photo(box, photo), 0, (width, height))
        target["box"] = np.round(corners, 2).ravel().tolist()
    return {
        "path": photo.path,
        "size": list(map(int, photo.shape)),
        "seen": np.round(photo.seen, 2).tolist(),
        "target": target,
        "score": one.score,
        "methods": {
            name: _map_facts(array, photo) | one.facts[name] for name, array in one.maps.items()
        },
    }


def _in_photo(points: np.ndarray, photo: ExplainedPhoto) -> np.ndarray:
    """Points (across, down) [n, 2] of the maps, in pixels of the photo."""
    size = len(next(iter(photo.explanation.maps.values())))
    return photo.seen[:2] + points * (photo.seen[2:] - photo.seen[:2]) / size


def _map_facts(array: np.ndarray, photo: ExplainedPhoto) -> dict[str, Any]:
    row, column = np.unravel_index(array.argmax(), array.shape)
    place = _in_photo(np.array([[column + 0.5, row + 0.5]]), photo)[0]
    mass = np.maximum(array, 0).astype(np.float64)
    total, inside = mass.sum(), photo.explanation.target.inside
    facts: dict[str, Any] = {"maximum": np.round(place, 1).tolist(), "half_area": None}
    if total > 0:
        share = np.cumsum(np.sort(mass.ravel())[::-1]) / total
        facts["half_area"] = float((np.searchsorted(share, 0.5) + 1) / mass.size)
    if inside is not None:
        facts["inside"] = float(mass[inside].sum() / total) if total > 0 else None
    return facts


def write_arrays(
    result: dict[str, Any], photos: Sequence[ExplainedPhoto], path: Path
) -> dict[str, Any]:
    """Writes the maps as NumPy's NPZ: of each method float32 [N, S, S]; path [N]; label int32 [N];
    score float32 [N]; size int32 [N, 2] and seen float64 [N, 4], see `ExplainedPhoto`. The middle
    of a map's pixel (row, column) is left + (column + 0.5) * (right - left) / S from the left edge.

    Returns:
      The result; where that failed, with one more of its errors.
    """
    found = [photo.explanation for photo in photos]
    arrays = {
        name: np.stack([one.maps[name] for one in found]).astype(np.float32)
        for name in result["methods"]
    }
    arrays |= {
        "path": np.array([photo.path for photo in photos]),
        "label": np.array([one.target.facts["label"] for one in found], np.int32),
        "score": np.array([one.score for one in found], np.float32),
        "size": np.array([photo.shape for photo in photos], np.int32),
        "seen": np.array([photo.seen for photo in photos]),
    }
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        failed = {"path": str(path), "error": f"{printable(path)} cannot be written: {error}"}
        return {**result, "errors": [*result["errors"], failed]}
    return {**result, "arrays": str(path)}


def explanations_text(result: dict[str, Any]) -> str:
    """What was found in each photo, in lines."""
    size = result["image_size"]
    lines = [f"{printable(result['model'])}, {size} x {size} pixels"]
    for photo in result["explanations"]:
        lines += ["", printable(photo["path"]), f"  {_target_text(photo)}"]
        for name, facts in photo["methods"].items():
            lines.append(f"  {name:20}  {_map_text(facts)}")
    if "picture" in result:
        drawn, count = result["drawn"], len(result["explanations"])
        part = f", the first {drawn} of {count} photos" if drawn < count else ""
        lines += ["", f"drawn in {printable(result['picture'])}{part}"]
    return "\n".join(lines)


def _target_text(photo: dict[str, Any]) -> str:
    target = photo["target"]
    text = f"{printable(target['title'])}, score {photo['score']:.4g}"
    if "probability" in target:
        text += f", {target['probability']:.1%}"
    if "share" in target:
        text += f", the mean over {target['share']:.1%} of the pixels"
        text += "" if target["share"] else ", so over all"
    if "box" in target:
        text += ", box " + ", ".join(f"{side:.0f}" for side in target["box"])
    return text


def _map_text(facts: dict[str, Any]) -> str:
    if facts["half_area"] is None:
        return "nothing speaks for it"
    across, down = facts["maximum"]
    text = f"most at ({across:.0f}, {down:.0f}), half of it in {facts['half_area']:.1%} of the area"
    if "inside" in facts:
        text += f", {facts['inside']:.1%} inside"
    if "gap" in facts:
        text += f"; its sum {facts['sum']:.4g}, the score's rise {facts['difference']:.4g}"
        if abs(facts["gap"]) > _GAP * abs(facts["difference"]):
            text += ": raise --steps"
    return text
