"""`launch.py compress`."""

import argparse
import contextlib
import os
import shlex
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.deploy.variants import (
    IMPORTANCES,
    REMOVED,
    SCOPES,
    STRUCTURES,
    Variant,
    config_of,
    parse_variants,
)
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.models.facts import check_model
from imagenet_jax.reports.workdir import check_run_folder
from imagenet_jax.terminal import working
from imagenet_jax.training.checks import check_fields, check_training
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb, number


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_weights_flags(parser)
    parser.add_argument(
        "--prune",
        default="",
        metavar="SHARE,SHARE",
        help="of the weights, channels or blocks that go: 0.5,0.8",
    )
    parser.add_argument(
        "--structure",
        default="",
        metavar="WHAT,WHAT",
        help=f"what goes: {STRUCTURES}, which leaves 2 of 4 weights; only without channels or "
        "blocks a network is faster everywhere; default: weights",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        default="",
        help="the whole network and each smaller one in int8 too: post-training with --epochs=0, "
        "else quantization-aware training after that; with their LiteRT and ONNX files",
    )
    parser.add_argument(
        "--quantize_skip",
        default="",
        metavar="PATTERN,PATTERN",
        help="layers that --quantize leaves as they are: regular expressions of paths of kernels",
    )
    parser.add_argument(
        "--epochs",
        type=number(float, least=0, most=10**6),
        default=None,
        metavar="N",
        help="of training in which each recovers, as the run was trained; 0: pruned at once; "
        "default: those of the run, with --model 0",
    )
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        default="",
        help="what shares are of: all weights or channels together, or those of each layer; "
        "default: global for weights, layer for channels",
    )
    parser.add_argument(
        "--importance",
        choices=IMPORTANCES,
        default="",
        help="which channels matter: length of their kernels, or scale of BatchNorm",
    )
    parser.add_argument(
        "--distill",
        action="store_true",
        help="the whole network teaches the smaller one; see config.distill",
    )
    parser.add_argument("--out", default="", metavar="DIR", help="default: WORKDIR/compress")


def _out(args: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(args.out or args.workdir / "compress"))


def _duration(args: argparse.Namespace, config: ml_collections.ConfigDict) -> str:
    """Of the training in which a variant recovers; "" for none."""
    if args.epochs is None:
        return "" if args.model else config.duration
    return f"{args.epochs:g} epochs" if args.epochs else ""


def _teacher(args: argparse.Namespace) -> str:
    if not args.distill:
        return ""
    if args.weights:
        raise ConfigError("--distill is by the run in --workdir or by --model, not by --weights")
    return args.model or str(args.workdir.absolute())


def _skip(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, args.quantize_skip.split(","))))


def _variants(args: argparse.Namespace, config: ml_collections.ConfigDict) -> list[Variant]:
    """Those asked for. Raises ConfigError if there are none, or they make no sense together."""
    if args.quantize_skip and not args.quantize:
        raise ConfigError(f"--quantize_skip={args.quantize_skip} goes with --quantize")
    if config.model.quantize:
        raise ConfigError(
            f"config.model.quantize = {config.model.quantize!r}: this network is quantized; "
            "compress the one that it was made of"
        )
    variants = parse_variants(args.structure, args.prune, args.quantize)
    structures = {variant.structure for variant in variants}
    if args.importance and "channels" not in structures:
        raise ConfigError(f"--importance={args.importance} goes with --structure=channels")
    if args.scope and not structures & {"channels", "weights"}:
        raise ConfigError(f"--scope={args.scope} goes with --structure=weights or channels")
    return variants


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    variants = _variants(args, config)
    check_weights(args, config, here)
    how = {"duration": _duration(args, config), "teacher": _teacher(args), "skip": _skip(args)}
    for variant in variants:
        if variant.structure in REMOVED:
            check_model(config.model.name, [REMOVED[variant.structure]])
        of = config
        for one in filter(None, (variant.base, variant)):
            of = config_of(one, of, scope=args.scope, said=args.overrides, **how)
        check_fields(of)
        if how["duration"]:
            check_training(of, here=here)
        elif args.distill:
            raise ConfigError("--distill teaches while a network is trained, and --epochs is 0")
    if here:
        check_run_folder(_out(args))


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    with working("loading JAX and TensorFlow"):
        from imagenet_jax.data.catalog import evaluation_split
        from imagenet_jax.deploy.compress import Request, compress

    if args.model and "data.eval_split" not in args.overrides:
        with contextlib.suppress(DataError):  # without data nothing is evaluated
            config.data.eval_split = evaluation_split(config.data.name, config.data.dir)
    request = Request(
        tuple(_variants(args, config)),
        duration=_duration(args, config),
        scope=args.scope,
        importance=args.importance or IMPORTANCES[0],
        teacher=_teacher(args),
        skip=_skip(args),
        said=tuple(args.overrides),
    )
    return compress(find_trained(args, config), request, _out(args))


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.deploy.compress_text import compress_text

    return compress_text(result)


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    last = [row["workdir"] for row in result["variants"] if row["workdir"]][-1]
    verbs = ("evaluate", "export") if result["dataset"] else ("export",)
    return [f"{args.program} {verb} --workdir={shlex.quote(last)}" for verb in verbs]


COMPRESS = Verb(
    "smaller forms of a trained model: pruned, quantized, recovered and compared",
    _add_flags,
    _run,
    _text,
    load=load,
    check=_check,
    title=lambda args, config: f"{args.model or args.workdir}, smaller, in {_out(args)}",
    next=_next,
)
