"""`launch.py sweep`: its flags, and the command that trains one of its runs."""

import argparse
import shlex
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.launchers import find_launcher
from imagenet_jax.hosts.launchers.job import own_program
from imagenet_jax.reports.workdir import check_run_folder
from imagenet_jax.sweep.space import grid, parse_space, with_fields
from imagenet_jax.verbs.verb import Verb, number, whole_numbers


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    forms = "FIELD=A,B,C or FIELD=LOW..HIGH or FIELD=LOW..HIGH:log"
    add("--grid", nargs="+", default=[], metavar="FIELD=A,B,C", help="all combinations")
    add("--random", nargs="+", default=[], metavar="SPEC", help=f"drawn at random from {forms}")
    add("--bayes", nargs="+", default=[], metavar="SPEC", help="Bayesian search (TPE) in the same")
    add("--trials", type=number(int, least=0), default=0, help="default: all of a grid, else 20")
    add("--parallel", type=number(int, least=1), default=1, help="trials at a time")
    add(
        "--seeds",
        type=whole_numbers(0),
        default=[],
        help="e.g. 0,1,2: a trial's value is the mean over them",
    )
    add(
        "--folds",
        type=number(int, least=0),
        default=0,
        help="cross-validate: the mean over so many folds",
    )
    add("--metric", default="", help="what decides, e.g. loss; default: top1, map, ... of the task")
    add("--no_pruning", action="store_true", help="train trials that stay behind to the end")


def _methods(args: argparse.Namespace) -> list[str]:
    return [name for name in ("grid", "random", "bayes") if getattr(args, name)]


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    methods = _methods(args)
    if len(methods) != 1:
        raise ConfigError("give one of --grid, --random and --bayes, with what is to be tried")
    if args.launcher.startswith(("tpu-vm", "gke")):
        raise ConfigError(
            f"--launcher={args.launcher}: a sweep needs the results of its runs here; use local, "
            "processes or slurm"
        )
    if args.launcher != "local":
        find_launcher(args.launcher)
    space = parse_space(getattr(args, methods[0]), config)
    if args.seeds and "seed" in space:
        raise ConfigError("--seeds and the field seed of what is tried say the same; leave one out")
    if args.folds and (twice := sorted({"data.fold", "data.folds"} & space.keys())):
        raise ConfigError(f"--folds sets {twice[0]}, which is also tried; leave one out")
    if args.folds:
        with_fields(config, {"data.folds": args.folds})
    if methods == ["grid"]:
        grid(space)
    if here:
        check_run_folder(args.workdir)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.sweep.sweep import Sweep, sweep

    def command(workdir: Path, fields: dict[str, Any]) -> list[str]:
        launcher = args.launcher
        if launcher.startswith("slurm"):
            launcher += ",wait=true" if ":" in launcher else ":wait=true"
        flags = [f"--config={args.config}"] if args.config else []
        flags += [f"--launcher={launcher}", f"--max_restarts={args.max_restarts}"]
        flags += [f"--start_timeout={args.start_timeout}"] if args.start_timeout else []
        fields = args.overrides | fields
        flags += [f"--config.{name}={value}" for name, value in fields.items()]
        return [*own_program(), "train", *flags, f"--workdir={workdir}"]

    (method,) = _methods(args)
    request = Sweep(
        method=method,
        specs=tuple(getattr(args, method)),
        trials=args.trials,
        parallel=args.parallel,
        seeds=tuple(args.seeds),
        folds=args.folds,
        metric=args.metric,
        prune=not args.no_pruning,
        hparams=config.log.tensorboard,
    )
    return sweep(request, config, args.workdir, command)


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.sweep.report import sweep_text

    return sweep_text(result)


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    del result
    return [f"tensorboard --logdir={shlex.quote(str(args.workdir))}  # its page HPARAMS"]


SWEEP = Verb(
    "train over a grid of configs, at random or by Bayesian search",
    _add_flags,
    _run,
    _text,
    check=_check,
    needs_jax=False,
    next=_next,
)
