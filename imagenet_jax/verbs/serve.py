"""`launch.py serve`."""

import argparse
from typing import Any

import ml_collections

from imagenet_jax.deploy.server.limits import Limits, check_packages
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb, number

_LIMITS = Limits()


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_weights_flags(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine's"
    )
    parser.add_argument(
        "--port", type=number(int, least=0, most=65535), default=8000, help="0: any that is free"
    )
    parser.add_argument(
        "--max_batch",
        type=number(int, least=1, most=_LIMITS.batch),
        default=_LIMITS.batch,
        help="images that the program sees at once",
    )
    parser.add_argument(
        "--max_wait",
        type=number(float, least=0, most=10_000),
        default=_LIMITS.wait,
        help="milliseconds that an image waits for others",
    )
    parser.add_argument(
        "--queue",
        type=number(int, least=1, most=100_000),
        default=_LIMITS.queue,
        help="images that may wait; what is beyond is told 429",
    )
    parser.add_argument(
        "--timeout",
        type=number(float, least=0.1, most=3600),
        default=_LIMITS.seconds,
        help="seconds to send a request, and to answer it",
    )


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    if config.data.eval_crop == "align":
        raise ConfigError(
            "config.data.eval_crop = 'align' knows the points of a face by the name of its file, "
            "and photos that are sent have none; set --config.data.eval_crop=resize, for faces "
            "that are aligned"
        )
    if here:
        check_packages()


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.deploy.server.serve import serve
    from imagenet_jax.inference.predictor import Predictor

    limits = Limits(
        batch=args.max_batch,
        wait=args.max_wait,
        queue=args.queue,
        seconds=args.timeout,
        drain=max(_LIMITS.drain, args.timeout),
    )
    return serve(Predictor(find_trained(args, config)), limits, args.host, args.port)


def _text(result: dict[str, Any]) -> str:
    return f"{result['requests']} requests and {result['images']} images were answered"


SERVE = Verb(
    "a page and an HTTP interface for photos", _add_flags, _run, _text, load=load, check=_check
)
