"""`launch.py evaluate`."""

import argparse
import os
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config.lists import parse_tuple
from imagenet_jax.data.names import TEST, VALIDATION
from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.workdir import check_output
from imagenet_jax.suites.table import find_suites
from imagenet_jax.tasks.table import find_task
from imagenet_jax.terminal import working
from imagenet_jax.training.checks import check_fields, check_source
from imagenet_jax.verbs.model_flags import (
    add_weights_flags,
    check_weights,
    find_trained,
    load,
    which_checkpoint,
)
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_weights_flags(parser)
    parser.add_argument("--dataset", default="", help="with --model: as config.data.name")
    parser.add_argument("--split", default="", help="with --dataset; default: validation or test")
    parser.add_argument(
        "--per_image",
        metavar="CSV",
        help="also what was said of each image: file, label, prediction, probability, correct",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also a picture of the most wrong images and which of their pixels speak for that",
    )
    parser.add_argument(
        "--suite",
        default="",
        metavar="NAME,NAME",
        help="instead: on other sets for ImageNet's classes: real, v2, v2/topimages, a, r, sketch, "
        "objectnet, c, c/fog, ...; NAME=folder:PATH where data.dir does not have it",
    )
    parser.add_argument(
        "--probe",
        default="",
        metavar="SPLIT",
        help="instead: linear probe and few-shot accuracy of the features, learnt from SPLIT",
    )


def _load(args: argparse.Namespace) -> ml_collections.ConfigDict:
    config = load(args)
    config.data.name = args.dataset or config.data.name
    config.data.eval_split = args.split or config.data.eval_split
    if args.suite:
        config.eval.suites = _suites(args)
    return config


def _suites(args: argparse.Namespace) -> tuple[str, ...]:
    """The parts of --suite. Raises ConfigError."""
    for flag in ("probe", "per_image", "explain", "dataset", "split"):
        if getattr(args, flag):
            raise ConfigError(f"--suite={args.suite} does not go with --{flag}")
    try:
        names = tuple(parse_tuple(args.suite))
    except ValueError as error:
        raise ConfigError(f"--suite={args.suite}: {error}") from error
    if not names:
        raise ConfigError(f"--suite={args.suite} names none; expected e.g. v2,a")
    return names


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_weights(args, config, here)
    if args.suite and here:
        find_suites(config.eval.suites, config.data.dir)
    elif not args.suite:
        check_source(config, here=here)
    if (args.model or args.weights) and "eval.norm_batches" in args.overrides:
        raise ConfigError(
            "--config.eval.norm_batches is for checkpoints of a run; `average` estimates the "
            "statistics of what it averages"
        )
    for flag in ("per_image", "explain"):
        if getattr(args, flag) and args.probe:
            raise ConfigError(f"--{flag} does not go with --probe, which evaluates no single image")
    if args.per_image and here:
        check_output(Path(os.path.expanduser(args.per_image)), "--per_image")


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    with working("loading JAX and TensorFlow"):
        from imagenet_jax.inference.evaluate import (
            evaluate_pretrained,
            evaluate_run,
            evaluate_suites,
        )
        from imagenet_jax.inference.probe import probe

    if args.suite:
        return evaluate_suites(find_trained(args, config))
    if args.model and not args.split and "data.eval_split" not in args.overrides:
        from imagenet_jax.data.catalog import evaluation_split

        found = evaluation_split(config.data.name, config.data.dir)
        # What learns from the only split is tested on the part that is held out of it.
        if not args.probe or found.lower() in (*VALIDATION, *TEST):
            config.data.eval_split = found
    table = Path(os.path.expanduser(args.per_image)) if args.per_image else None
    if not args.model and not args.weights and not args.probe:
        which = which_checkpoint(args, config)
        how = {"per_image": table, "explain": args.explain}
        return evaluate_run(config, args.workdir, which=which, **how)
    trained = find_trained(args, config)
    if args.probe:
        return probe(trained, args.probe)
    return evaluate_pretrained(trained, args.workdir, per_image=table, explain=args.explain)


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.inference.probe import probe_text
    from imagenet_jax.reports.report import summary_table
    from imagenet_jax.suites.results import suites_text

    if "suites" in result:
        return suites_text(result)
    if "linear_probe" in result:
        return probe_text(result)
    return summary_table(result, find_task(result["task"]))


EVALUATE = Verb(
    "exact evaluation of a checkpoint or of pretrained weights",
    _add_flags,
    _run,
    _text,
    load=_load,
    check=_check,
    title=lambda args, config: (
        f"evaluation of {args.model or args.workdir} on {args.suite or config.data.name}"
    ),
)
