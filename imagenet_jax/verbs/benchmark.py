"""`launch.py benchmark`."""

import argparse
from typing import Any

import ml_collections

from imagenet_jax.reports.workdir import check_writable
from imagenet_jax.training.checks import check_fields, check_source
from imagenet_jax.verbs.verb import Verb, number, say_without_stages


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--what", choices=["input"], default="input", help="input: from files to devices"
    )
    parser.add_argument(
        "--seconds", type=number(float, least=0), default=20.0, help="length of measurement"
    )


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    check_fields(config)
    check_source(config, here=here)
    if here:
        check_writable(args.workdir)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    from imagenet_jax.study.input import benchmark_input, plot_input

    say_without_stages(config)
    result = benchmark_input(config, args.seconds)
    args.workdir.mkdir(parents=True, exist_ok=True)
    plot_input(result, args.workdir / "input.png")
    return result


def _text(result: dict[str, Any]) -> str:
    from imagenet_jax.study.input import input_table

    return input_table(result)


BENCHMARK = Verb(
    "how fast this machine feeds the devices, and where the time goes",
    _add_flags,
    _run,
    _text,
    check=_check,
)
