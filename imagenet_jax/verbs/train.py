"""`launch.py train`."""

import argparse
import shlex
from typing import Any

import ml_collections

from imagenet_jax.config import network_name
from imagenet_jax.reports.workdir import check_run_folder, saved_config
from imagenet_jax.terminal import working
from imagenet_jax.training.checks import check_fields, check_training
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow_config_change",
        nargs="?",
        const=True,
        default=False,
        type=lambda text: text.split(","),
        metavar="FIELD,FIELD",
        help="resume although the config differs from the checkpoint's; with names of fields (or "
        "sections, or dataset): only where these do",
    )


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_training(config, here=here)
    if here:
        check_run_folder(args.workdir)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    with working("loading JAX and TensorFlow"):
        from imagenet_jax.reports.tracking import make_tracking
        from imagenet_jax.training.loop import train

    return train(
        config,
        args.workdir,
        tracking=make_tracking(config),
        allow_config_change=args.allow_config_change,
    )


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.reports.report import summary_table
    from imagenet_jax.suites.results import suites_table
    from imagenet_jax.tasks.table import find_task

    table = summary_table(result, find_task(result["task"]))
    return "\n\n".join((table, suites_table(result["suites"]))) if "suites" in result else table


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    del result
    workdir, config = shlex.quote(str(args.workdir)), saved_config(args.workdir)
    as_it_is = config is not None and config.data.eval_crop == "none"  # of one size, as digits
    crop = " --config.data.eval_crop=resize" if as_it_is else ""
    return [
        f"tensorboard --logdir={workdir}",
        f"{args.program} predict --workdir={workdir}{crop} PHOTO.jpg",
        f"{args.program} evaluate --workdir={workdir}",
    ]


def _title(args: argparse.Namespace, config: ml_collections.ConfigDict) -> str:
    return f"{config.task}, {network_name(config)} on {config.data.name}, in {args.workdir}"


TRAIN = Verb(
    "train (or resume) and evaluate",
    _add_flags,
    _run,
    _text,
    check=_check,
    title=_title,
    next=_next,
)
