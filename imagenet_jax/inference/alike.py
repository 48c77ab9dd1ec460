"""How alike photos are, by the embeddings or features of a trained model."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.photos import read_pixels
from imagenet_jax.inference.predict import predict_photos, with_picture, with_table
from imagenet_jax.printable import printable
from imagenet_jax.reports.pair_mistakes import THRESHOLDS
from imagenet_jax.reports.workdir import REPORT
from imagenet_jax.reports.writers import replace_figure
from imagenet_jax.tasks.nearest import unit
from imagenet_jax.training.trained import TrainedModel

NEAREST = 5
_SHOWN, _DRAWN = 12, 12  # photos of the matrix on the terminal; of the picture


def compare_photos(trained: TrainedModel, photos: Sequence[str]) -> dict[str, Any]:
    """What `predict_photos` gives, and how far the photos are from each other.

    Args:
      trained: a model that gives embeddings or features.
      photos: paths of image files.

    Returns:
      As `predict_photos`, each prediction with embedding or features and nearest, up to five others
      of path and distance, the nearest first; and distances, cosine distances of 0 to 2, a row
      for each prediction.

    Raises:
      DataError: if none can be read.
    """
    result = predict_photos(trained, photos)
    predictions = result["predictions"]
    distances = _distances(predictions)
    for row, photo in enumerate(predictions):
        order = [int(k) for k in np.argsort(distances[row], kind="stable") if k != row][:NEAREST]
        photo["nearest"] = [
            {"path": predictions[k]["path"], "distance": float(distances[row, k])} for k in order
        ]
    return {**result, "distances": distances.tolist()}


def _distances(predictions: Sequence[dict[str, Any]]) -> np.ndarray:
    if "features" in predictions[0]:
        vectors = np.float64(unit(np.array([photo["features"] for photo in predictions])))
    else:
        vectors = np.array([photo["embedding"] for photo in predictions])
    found = (1 - vectors @ vectors.T).clip(0, 2)
    np.fill_diagonal(found, 0)
    return found


def distances_text(result: dict[str, Any]) -> str:
    """The matrix of distances of up to twelve photos, the nearest photo of others; in lines."""
    size, distances = result["image_size"], result["distances"]
    names = [Path(photo["path"]).name for photo in result["predictions"]]
    names = [printable(name)[-24:] for name in names]
    width = max(map(len, names))
    lines = [f"{printable(result['model'])}, {size} x {size} pixels", ""]
    if len(names) <= _SHOWN:
        lines.append("cosine distances, 0 for the same direction:")
        for number, (name, row) in enumerate(zip(names, distances, strict=True), 1):
            numbers = "  ".join(f"{distance:.3f}" for distance in row)
            lines.append(f"  {number:2} {name:<{width}}  {numbers}")
    else:
        lines.append("the nearest other photo, with the cosine distance:")
        for name, photo in zip(names, result["predictions"], strict=True):
            near = photo["nearest"][0]
            other = printable(Path(near["path"]).name)[-24:]
            lines.append(f"  {name:<{width}}  {near['distance']:.3f}  {other}")
    if "picture" in result:
        drawn, count = result["drawn"], len(names)
        part = f", of the first {drawn} of {count} photos" if drawn < count else ""
        lines += ["", f"the nearest photos are drawn in {printable(result['picture'])}{part}"]
    return "\n".join(lines)


def write_distances(result: dict[str, Any], photos: Sequence[str], path: Path) -> dict[str, Any]:
    """Writes a table: path, the nearest other and its distance, the distances to all, and the error
    of a photo that cannot be read.

    Returns:
      The result; where that failed, with one more of its errors.
    """
    return with_table(result, _rows(result, photos), path)


def _rows(result: dict[str, Any], photos: Sequence[str]) -> Iterator[Sequence[str]]:
    paths = [photo["path"] for photo in result["predictions"]]
    found = {}
    for photo, row in zip(result["predictions"], result["distances"], strict=True):
        near = photo["nearest"][0] if photo["nearest"] else {"path": "", "distance": None}
        least = "" if near["distance"] is None else f"{near['distance']:.6f}"
        found[photo["path"]] = [near["path"], least, *(f"{distance:.6f}" for distance in row)]
    errors = {error["path"]: error["error"] for error in result["errors"]}
    yield ("path", "nearest", "distance", *(f"distance to {path}" for path in paths), "error")
    for path in map(str, photos):
        row = found.get(path, [""] * (len(paths) + 2))
        yield (path, *row, errors.get(path, ""))


def draw_nearest(result: dict[str, Any], path: Path, config: Any) -> dict[str, Any]:
    """Draws the first photos, each in a row with those that are nearest, into a PNG.

    Returns:
      The result with picture and drawn, how many photos there are a row of; where that failed, with
      one more of its errors.
    """
    return with_picture(result, lambda: _draw(result, path, config), path)


def _draw(result: dict[str, Any], path: Path, config: Any) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    shown = result["predictions"][:_DRAWN]
    columns = 1 + max(len(photo["nearest"]) for photo in shown)
    figure, axes = plt.subplots(
        len(shown),
        columns,
        figsize=(1.7 * columns, 2.0 * len(shown)),
        layout="constrained",
        squeeze=False,
    )
    try:
        for row, photo in zip(axes, shown, strict=True):
            tiles = [(photo["path"], ""), *((p["path"], p["distance"]) for p in photo["nearest"])]
            for place, (name, distance) in zip(row, tiles, strict=False):
                picture = Image.fromarray(read_pixels(name, config))
                picture.thumbnail((200, 200))
                place.imshow(np.asarray(picture))
                about = printable(Path(name).name)[-22:]
                title = f"{distance:.3f}\n{about}" if distance != "" else about
                place.set_title(title, fontsize=7, parse_math=False)
            for place in row:
                place.set_axis_off()
        figure.suptitle(printable(result["model"])[-80:], fontsize=9, parse_math=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_figure(path, figure)
    finally:
        plt.close(figure)
    return len(shown)


def read_thresholds(workdir: Path, far: float) -> dict[str, Any]:
    """The distance up to which photos are called the same at a false-accept rate.

    Args:
      workdir: of a run, with what its last evaluation wrote.
      far: the rate, 0 to 1.

    Returns:
      threshold; far and tar, the rates of the evaluation at it; different_pairs, of which far is a
      share; about, what was evaluated.

    Raises:
      DataError: if there was no evaluation, or its file is damaged.
      ConfigError: for a rate that so few pairs cannot tell.
    """
    file = workdir / REPORT / THRESHOLDS
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        rates = np.array([facts[name] for name in ("far", "tar", "distance")], float)
        different, about = int(facts["different_pairs"]), str(facts["about"])
        if rates.ndim != 2 or not rates.size or not np.isfinite(rates).all():
            raise ValueError("its rates are no numbers")
    except FileNotFoundError:
        raise DataError(
            f"{file} is not there: it is what an evaluation leaves behind. Run `evaluate "
            f"--workdir={workdir}` first"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} cannot be read: {error}; `evaluate --workdir={workdir}` writes it anew"
        ) from error
    if far * different < 1:
        raise ConfigError(
            f"--far={far:g} is less than one of the {different:,} pairs of different classes that "
            f"{workdir} was evaluated on; expected {1 / different:.2g} at least, or evaluate more "
            "pairs (config.embedding.num_pairs)"
        )
    place = int(np.flatnonzero(rates[0] <= far)[-1])
    found = dict(zip(("far", "tar", "threshold"), rates[:, place].tolist(), strict=True))
    return {**found, "different_pairs": different, "about": about}


def verify_photos(
    trained: TrainedModel, first: str, second: str, workdir: Path, far: float
) -> dict[str, Any]:
    """Whether two photos show the same, at the threshold of `read_thresholds`.

    Returns:
      task, model; first and second, their paths; distance, same, and what `read_thresholds` gives.

    Raises:
      UserError: see there; for a model without embeddings, or a photo that cannot be read.
    """
    if not trained.task.is_open_set:
        raise ConfigError(
            f"config.task = {trained.config.task!r} gives no embeddings to compare; verify is for "
            "runs with config.task = 'embedding'"
        )
    limits = read_thresholds(workdir, far)
    result = predict_photos(trained, [first, second])
    if result["errors"]:
        raise DataError("; ".join(error["error"] for error in result["errors"]))
    distance = float(_distances(result["predictions"])[0, 1])
    return {
        "task": result["task"],
        "model": result["model"],
        "first": first,
        "second": second,
        "same": distance <= limits["threshold"],
        "distance": distance,
        **limits,
    }


def verification_text(result: dict[str, Any]) -> str:
    """What `verify_photos` gave, for people."""
    same = "the same" if result["same"] else "not the same"
    return "\n".join(
        [
            f"{printable(result['first'])} and {printable(result['second'])}: {same}",
            f"  cosine distance {result['distance']:.4f}, the same up to {result['threshold']:.4f}",
            f"  of {result['different_pairs']:,} pairs of different ones {result['far']:.2%} were "
            f"called the same at that, of pairs of the same {result['tar']:.2%}",
            f"  ({printable(result['about'])})",
        ]
    )
