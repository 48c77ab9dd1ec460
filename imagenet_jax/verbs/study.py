"""`launch.py study`."""

import argparse
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config.stages import config_stages
from imagenet_jax.data.names import check_data
from imagenet_jax.reports.workdir import check_writable
from imagenet_jax.study.compare import compare_reports, read_report
from imagenet_jax.study.described import check_compiler, check_described, check_topology
from imagenet_jax.study.text import study_text
from imagenet_jax.training.checks import check_fields, check_source
from imagenet_jax.verbs.verb import Verb, number, say_without_stages, whole_numbers


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--topology",
        type=lambda text: text.split(","),
        default=[""],
        help="described hardware, e.g. v5e:16x16,h200:8; default: the attached devices",
    )
    add(
        "--partitioner",
        type=lambda text: text.split(","),
        default=[],
        help="jit, shard_map, pmap, or several; default: the config's",
    )
    add(
        "--batch_per_device",
        type=whole_numbers(1),
        default=[],
        help="images, one number or several; default: config.batch_size over the devices",
    )
    add("--scaling", type=_scaling_topologies, help="KIND:SHAPE,SHAPE,..., e.g. v5e:2x2,4x4,8x8")
    add(
        "--strong",
        type=number(int, least=0),
        default=0,
        help="with --scaling: a global batch to be divided",
    )
    add("--trace", action="store_true", help="on attached devices: keep a profile for TensorBoard")
    add("--with_input", action="store_true", help="on attached devices: run on the data, too")
    add(
        "--largest_batch",
        action="store_true",
        help="find the largest batch that fits, to an eighth, by compiling further ones",
    )
    add(
        "--compare",
        nargs=2,
        metavar="REPORT",
        help="instead: two saved studies side by side, WORKDIR/study/NAME.json",
    )


def _scaling_topologies(text: str) -> list[str]:
    """["v5e:2x2", "v5e:4x4"] of "v5e:2x2,4x4"."""
    kind, _, shapes = text.partition(":")
    return [f"{kind}:{shape.removeprefix(kind + ':')}" for shape in shapes.split(",")]


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    if args.compare:
        for report in args.compare if here else ():
            read_report(Path(report))
        return
    partitioners = args.partitioner or [config.partitioner]
    for partitioner in partitioners:
        config = config.copy_and_resolve_references()
        config.partitioner = partitioner
        check_fields(config)
    for stage in config_stages(config):
        check_data(stage.config.data)
    described = [name for name in args.scaling or args.topology if name]
    if described:
        check_described(partitioners, args.with_input)
    for check in (check_topology, check_compiler) if here else (check_topology,):
        for name in described:
            check(name)
    if args.with_input:
        check_source(config, here=here)
    if here:
        check_writable(args.workdir)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    if args.compare:
        return compare_reports(*map(Path, args.compare))
    from imagenet_jax.study.study import study

    say_without_stages(config)
    return study(
        config,
        args.workdir,
        topologies=args.scaling or args.topology,
        partitioners=args.partitioner,
        batches=args.batch_per_device,
        strong=args.strong,
        trace=args.trace,
        with_input=args.with_input,
        largest_batch=args.largest_batch,
    )


STUDY = Verb(
    "what the compiled step costs, on the attached devices or on described ones",
    _add_flags,
    _run,
    study_text,
    check=_check,
)
