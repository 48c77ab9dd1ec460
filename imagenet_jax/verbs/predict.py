"""`launch.py predict`."""

import argparse
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.errors import DataError
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", help="image files")
    parser.add_argument(
        "--checkpoint", default="latest", help="without --model: of the run in --workdir"
    )
    add_weights_flags(parser)
    parser.add_argument("--picture", help="PNG; default: WORKDIR/predictions.png")


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, here)
    for photo in args.photos if here else ():
        try:
            Path(photo).expanduser().open("rb").close()
        except OSError as error:
            raise DataError(f"{photo} cannot be read: {error}") from error


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.predict import draw_predictions, predict_photos

    result = predict_photos(find_trained(args, config), args.photos)
    picture = Path(args.picture) if args.picture else args.workdir / "predictions.png"
    draw_predictions(result, picture)
    return result | {"picture": str(picture)}


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.inference.predict import predictions_table

    return predictions_table(result)


PREDICT = Verb("what is in photos", _add_flags, _run, _text, load=load, check=_check)
