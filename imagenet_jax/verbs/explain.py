"""`launch.py explain`."""

import argparse
import os
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config.lists import split_list
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.explanation.methods import METHODS, STEPS, check_methods
from imagenet_jax.inference.photos import find_photos
from imagenet_jax.reports.workdir import check_output
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb, number


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", help="image files, folders, or patterns as 'a/*.jpg'")
    add_weights_flags(parser)
    parser.add_argument(
        "--method",
        default="",
        metavar="NAME,NAME",
        help=f"one or more of {', '.join(METHODS)}; default: grad_cam, or attention_rollout of a "
        "vision transformer of which no class is asked for",
    )
    parser.add_argument(
        "--class",
        dest="of_class",
        default="",
        metavar="NAME",
        help="the class that is explained, or its number; default: what the model says, of "
        "segmentation the class with the most pixels",
    )
    parser.add_argument(
        "--box",
        type=number(int, least=1),
        default=1,
        metavar="N",
        help="of a detector: which of its boxes, with --class of that class; 1, the default, is "
        "the best one",
    )
    parser.add_argument(
        "--part", default="", metavar="TASK", help="of several tasks; default: the first"
    )
    parser.add_argument(
        "--map",
        default="",
        metavar="NAME",
        help="of the backbone, for grad_cam; default: the last one, of a box or a segment the "
        "finest one of a stride of 4 at least",
    )
    parser.add_argument(
        "--steps",
        type=number(int, least=1, most=1000),
        default=STEPS,
        metavar="N",
        help=f"gradients of a photo for integrated_gradients and smooth_grad; default: {STEPS}",
    )
    parser.add_argument(
        "--arrays", metavar="FILE.npz", help="also the maps, and how they lie in the photos"
    )
    parser.add_argument("--picture", help="PNG; default: WORKDIR/explanations.png")


def _methods(args: argparse.Namespace) -> list[str]:
    """The parts of --method. Raises ConfigError."""
    try:
        names = list(filter(None, split_list(args.method)))
    except ValueError as error:
        raise ConfigError(f"--method={args.method}: {error}") from error
    if args.method and not names:
        raise ConfigError(f"--method={args.method} names none of {', '.join(METHODS)}")
    return check_methods(names, of_class=bool(args.of_class or args.box > 1))


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    _methods(args)
    if here:
        find_photos(args.photos)
        if args.arrays:
            check_output(Path(os.path.expanduser(args.arrays)), "--arrays")
        if args.picture:
            check_output(Path(os.path.expanduser(args.picture)), "--picture")


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.explanation.explainer import Explainer
    from imagenet_jax.inference.explanation.photos import explain_photos, write_arrays
    from imagenet_jax.inference.explanation.pictures import DRAWN, draw_explanations
    from imagenet_jax.terminal import working

    how = {"part": args.part, "map_name": args.map, "steps": args.steps}
    explainer = Explainer(find_trained(args, config), **how)
    asked = {"methods": _methods(args), "of_class": args.of_class, "box": args.box}
    kept = None if args.arrays else DRAWN
    with working("explaining"):
        result, found = explain_photos(explainer, find_photos(args.photos), **asked, kept=kept)
    if args.arrays:
        result = write_arrays(result, found, Path(os.path.expanduser(args.arrays)))
    picture = Path(os.path.expanduser(args.picture or args.workdir / "explanations.png"))
    return draw_explanations(result, found, picture, config)


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.inference.explanation.photos import explanations_text

    return explanations_text(result)


EXPLAIN = Verb(
    "which pixels an answer about photos depends on",
    _add_flags,
    _run,
    _text,
    load=load,
    check=_check,
)
