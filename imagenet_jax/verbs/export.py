"""`launch.py export`."""

import argparse
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.deploy.folder import (
    DEFAULT_FORMATS,
    FORMATS,
    INPUTS,
    PLATFORMS,
    check_formats,
    check_out,
)
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.photos import find_photos
from imagenet_jax.training.checks import check_fields
from imagenet_jax.verbs.model_flags import add_weights_flags, check_weights, find_trained, load
from imagenet_jax.verbs.verb import Verb

_PLATFORMS = "cpu,cuda,tpu"  # unless it is said


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        nargs="*",
        help="on which outputs are compared, and integers calibrated; default: of the run's "
        "evaluation split",
    )
    add_weights_flags(parser)
    parser.add_argument(
        "--format",
        default=",".join(DEFAULT_FORMATS),
        help=f"one or more of {', '.join(FORMATS)}; default: {','.join(DEFAULT_FORMATS)}",
    )
    parser.add_argument("--out", default="", metavar="DIR", help="default: WORKDIR/export")
    parser.add_argument(
        "--input",
        choices=INPUTS,
        default=INPUTS[0],
        help="images of 0 to 255, or such as are normalised already",
    )
    parser.add_argument(
        "--platforms",
        default=None,
        help=f"that a StableHLO file is for, of {', '.join(PLATFORMS)}; default: {_PLATFORMS}",
    )


def _several(flag: str, text: str, known: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    wrong = [name for name in found if name not in known]
    if wrong or not found:
        raise ConfigError(f"{flag}={text}; expected one or more of {', '.join(known)}")
    return found


def _platforms(args: argparse.Namespace) -> list[str]:
    text = _PLATFORMS if args.platforms is None else args.platforms
    return _several("--platforms", text, PLATFORMS)


def _out(args: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(args.out or args.workdir / "export"))


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    formats = _several("--format", args.format, FORMATS)
    if args.platforms is not None and "stablehlo" not in formats:
        raise ConfigError(f"--platforms={args.platforms} goes with --format=stablehlo")
    _platforms(args)
    if here:
        check_formats(formats)
        check_out(Path(os.path.realpath(_out(args))))
        if args.photos:
            find_photos(args.photos)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.deploy.export import export

    return export(
        find_trained(args, config),
        _out(args),
        formats=_several("--format", args.format, FORMATS),
        inputs=args.input,
        platforms=_platforms(args),
        photos=find_photos(args.photos) if args.photos else (),
    )


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.deploy.export import export_text

    return export_text(result)


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    def run_by(example: str) -> str:
        return shlex.join(["python", f"examples/{example}.py", result["out"], "IMAGES.npy"])

    found = [run_by("run_stablehlo")] if "stablehlo" in result["formats"] else []
    if "raw_boxes" in result["formats"].get("onnx", {}).get("outputs", {}):
        found.append(run_by("run_detector"))
    return found


EXPORT = Verb(
    "files of a trained model that run without this program",
    _add_flags,
    _run,
    _text,
    load=load,
    check=_check,
    next=_next,
)
