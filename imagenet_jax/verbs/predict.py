"""`launch.py predict`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.photos import find_photos
from imagenet_jax.reports.workdir import check_output
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb

if TYPE_CHECKING:  # it imports JAX
    from imagenet_jax.training.trained import TrainedModel


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", help="image files, folders, or patterns as 'a/*.jpg'")
    add_weights_flags(parser)
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="also a table: path, class 1, probability 1, ... of each photo, or its error; "
        "embeddings and features: the distances to all photos",
    )
    parser.add_argument(
        "--maps",
        metavar="DIR",
        help="segmentation: also the classes of the pixels of each photo, as DIR/NAME.png; "
        "instances: the numbers of the things",
    )
    parser.add_argument(
        "--coco",
        metavar="FILE",
        help="detection, instances: also the boxes and masks as COCO's JSON",
    )
    parser.add_argument("--picture", help="PNG; default: WORKDIR/predictions.png")


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    if here:
        find_photos(args.photos)
        if args.csv:
            check_output(Path(os.path.expanduser(args.csv)), "--csv")
        if args.coco:
            check_output(Path(os.path.expanduser(args.coco)), "--coco")


def _picture(args: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(args.picture or args.workdir / "predictions.png"))


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.coco_predictions import write_coco
    from imagenet_jax.inference.predict import (
        draw_predictions,
        predict_photos,
        write_maps,
        write_predictions,
    )

    trained = find_trained(args, config)
    of_maps, of_boxes = (trained.task.part_that(name) for name in ("has_maps", "has_boxes"))
    if args.maps and not of_maps:
        raise ConfigError(
            f"--maps={args.maps}: config.task = {trained.config.task!r} tells no classes of pixels"
        )
    if args.coco and not of_boxes:
        raise ConfigError(
            f"--coco={args.coco}: config.task = {trained.config.task!r} tells no boxes"
        )
    photos = find_photos(args.photos)
    if trained.task.is_open_set or trained.task.gives_features:
        return _compared(args, trained, photos)
    result = predict_photos(trained, photos)
    if args.maps:
        part, task = of_maps
        result = write_maps(result, Path(os.path.expanduser(args.maps)), task, part)
    if args.coco:
        part, task = of_boxes
        path = Path(os.path.expanduser(args.coco))
        result = write_coco(result, task.class_names, path, part)
    if args.csv:
        result = write_predictions(result, photos, Path(os.path.expanduser(args.csv)))
    return draw_predictions(result, _picture(args), trained.config)


def _compared(
    args: argparse.Namespace, trained: "TrainedModel", photos: list[str]
) -> dict[str, Any]:
    """What embeddings and features tell of photos is how far they are from each other."""
    from imagenet_jax.inference.alike import compare_photos, draw_nearest, write_distances

    result = compare_photos(trained, photos)
    if args.csv:
        result = write_distances(result, photos, Path(os.path.expanduser(args.csv)))
    return draw_nearest(result, _picture(args), trained.config)


def _text(result: dict[str, Any]) -> str:
    if "distances" in result:
        from imagenet_jax.inference.alike import distances_text

        return distances_text(result)
    from imagenet_jax.inference.predict import predictions_table

    return predictions_table(result)


PREDICT = Verb("what is in photos", _add_flags, _run, _text, load=load, check=_check)
