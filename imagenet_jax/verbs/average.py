"""`launch.py average`."""

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.workdir import check_output, check_which, checkpoints_of, saved_config
from imagenet_jax.training.checks import check_fields, check_source
from imagenet_jax.verbs.verb import Verb, config_file
from imagenet_jax.weights.pretrained import check_file, pretrained_config

_WHICH = re.compile(r"(?:last|best|improved):[1-9][0-9]{0,5}|[0-9]{1,18}(?:,[0-9]{1,18})*")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="*", help="workdirs of runs, or files of weights; default: --workdir"
    )
    parser.add_argument(
        "--output",
        default="",
        metavar="FILE.safetensors",
        help="to write; default: WORKDIR/average.safetensors",
    )
    parser.add_argument(
        "--checkpoints",
        default="",
        metavar="WHICH",
        help="of each run: last:3, best:3, improved:3 (the last that were better than all before) "
        "or steps as 1000,2000; default: the one that it reports",
    )
    parser.add_argument("--model", default="", help="of files, where none of a run is among them")


def _sources(args: argparse.Namespace) -> list[Path]:
    return [Path(os.path.expanduser(source)) for source in args.sources] or [args.workdir]


def _output(args: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(args.output or args.workdir / "average.safetensors"))


def _run_of(args: argparse.Namespace) -> Path | None:
    """The run whose model and classes files have."""
    if args.model:
        return None
    return next((path for path in _sources(args) if path.is_dir()), args.workdir)


def _load(args: argparse.Namespace) -> ml_collections.ConfigDict:
    if args.model and args.config:
        raise ConfigError("--model brings its own config; set its fields by --config.FIELD=VALUE")
    if args.model:
        return pretrained_config(args.model)
    return (None if args.config else saved_config(_run_of(args))) or config_file(args)


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    output, which = _output(args), args.checkpoints
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output={args.output}: expected a name that ends with .safetensors")
    if which and not _WHICH.fullmatch(which):
        raise ConfigError(
            f"--checkpoints={which}; expected last:N, best:N, improved:N or steps as 1000,2000"
        )
    if which and all(source.suffix and not source.is_dir() for source in _sources(args)):
        raise ConfigError(f"--checkpoints={which} is of runs, and there are only files")
    if config.eval.norm_batches:
        check_source(config, here=here)
    if not here:
        return
    check_output(output, "--output")
    for source in _sources(args):
        if source.is_dir() or not source.suffix:
            folder = checkpoints_of(source)
            for step in which.split(",") if which[:1].isdecimal() else ():
                check_which(folder, step)
        else:
            check_file(source)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.inference.average import average_weights, write_average

    run = _run_of(args)
    if run and not (run / "checkpoints").is_dir():
        raise ConfigError(
            f"there is no run in {run}, whose model the files would have; give --model or --workdir"
        )
    variables, facts = average_weights(config, _sources(args), run, args.checkpoints)
    path = _output(args)
    write_average(path, variables, facts)
    return {**facts, "file": str(path)}


def _text(result: dict[str, Any]) -> str:
    batches = result["norm_batches"]
    norms = f"estimated from {batches} batches of training images" if batches else "averaged"
    return "\n".join(
        (
            f"the average of {len(result['averaged'])} weights is in {result['file']}",
            *(f"  {name}" for name in result["averaged"]),
            f"  statistics of BatchNorm, if there are any: {norms}",
        )
    )


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    from imagenet_jax.verbs.flags import PROGRAM

    of = f"--model={args.model}" if args.model else f"--workdir={_run_of(args)}"
    return [f"{PROGRAM} evaluate {shlex.join([of, '--weights=' + result['file']])}"]


AVERAGE = Verb(
    "averages weights: of checkpoints of a run, of several runs, of files",
    _add_flags,
    _run,
    _text,
    load=_load,
    check=_check,
    next=_next,
)
