"""`launch.py models`."""

import argparse
from typing import Any

import ml_collections

from imagenet_jax.verbs.verb import Verb
from imagenet_jax.weights.listing import list_models, models_text


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", default="", help="part of a name, or a pattern with * and ?")


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    return list_models(args.filter)


MODELS = Verb("the table of models", _add_flags, _run, models_text, needs_jax=False)
