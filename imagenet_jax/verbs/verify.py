"""`launch.py verify`."""

import argparse
from typing import Any

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.photos import find_photos
from imagenet_jax.tasks.embedding_checks import OPEN_SET
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb, number


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="an image file")
    parser.add_argument("second", help="another one")
    parser.add_argument(
        "--checkpoint",
        default="",
        help="of the run in --workdir: latest, best or a step; default: what it reported",
    )
    parser.add_argument(
        "--far",
        type=number(float, least=0, most=1),
        default=1e-3,
        metavar="RATE",
        help="false-accept rate: the share of the pairs of different classes, in the evaluation of "
        "the run, that may be called the same; default: 0.001",
    )
    parser.set_defaults(model="", weights="", classes="")


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    if not here:
        return
    if config.task not in OPEN_SET:
        raise ConfigError(
            f"verify compares embeddings, and {args.workdir} is a run with config.task = "
            f"{config.task!r}; give the --workdir of one with config.task = 'embedding'"
        )
    for name in (args.first, args.second):
        find_photos([name])


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.alike import verify_photos

    trained = find_trained(args, config)
    return verify_photos(trained, args.first, args.second, args.workdir, args.far)


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.inference.alike import verification_text

    return verification_text(result)


VERIFY = Verb(
    "whether two photos show the same, by the embeddings of a run",
    _add_flags,
    _run,
    _text,
    load=load,
    check=_check,
)
