"""`launch.py predict`."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

import ml_collections

from imagenet_jax.errors import DataError
from imagenet_jax.inference.photos import find_photos
from imagenet_jax.reports.writers import write_summary
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", help="image files, folders, or patterns as 'a/*.jpg'")
    parser.add_argument(
        "--checkpoint",
        default="",
        help="of the run in --workdir: latest, best or a step; default: what it reported",
    )
    add_weights_flags(parser)
    parser.add_argument("--picture", help="PNG; default: WORKDIR/predictions.png")


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    if here:
        find_photos(args.photos)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.predict import draw_predictions, predict_photos

    trained = find_trained(args, config)
    result = predict_photos(trained, find_photos(args.photos))
    picture = Path(args.picture).expanduser() if args.picture else args.workdir / "predictions.png"
    result = draw_predictions(result, picture, trained.config)
    if result["errors"]:
        _answer_and_fail(result, args.json)
    return result


def _answer_and_fail(result: dict[str, Any], json: str | None) -> NoReturn:
    """Tells what is known of the other photos before the error ends the program."""
    print(_text(result))
    if json:
        Path(json).parent.mkdir(parents=True, exist_ok=True)
        write_summary(Path(json), result)
    raise DataError("; ".join(error["error"] for error in result["errors"]))


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.inference.predict import predictions_table

    return predictions_table(result)


PREDICT = Verb("what is in photos", _add_flags, _run, _text, load=load, check=_check)
