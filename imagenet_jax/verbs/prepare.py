"""`launch.py prepare`."""

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.config import base_config, load_config
from imagenet_jax.data.names import TEST, VALIDATION, check_files, check_preparation
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.reports.workdir import check_output
from imagenet_jax.tasks.table import check_task, find_task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.checks import check_source
from imagenet_jax.verbs.verb import Verb, number, say_without_stages

# What to train on a data set with, of tasks that need another than finetune.
_CONFIGS = {
    "detection": "detect_photos",
    "instances": "detect_coco:mask_rcnn_resnet50",
    "segmentation": "segment_voc",
}
_EXAMPLES = 16  # that are drawn


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--dataset",
        help="a TFDS name, folder:PATH, zip:FILE, csv:FILE (path,label[,split]), tfrecord:DIR; "
        "for --task=detection or instances coco:PATH, voc:PATH, yolo:PATH; for --task=segmentation "
        "masks:PATH",
    )
    add("--dir", default="", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    add("--name", default="", help="name of the new data set; default: after the source")
    add(
        "--file_format",
        choices=("array_record", "tfrecord"),
        default="",
        help="default: array_record, for --encoding=raw tfrecord",
    )
    add(
        "--resize",
        type=number(int, least=0),
        default=0,
        metavar="PIXELS",
        help="shrink short sides to this",
    )
    add(
        "--encoding",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="with --resize: how to store; raw: uint8, nine times larger, no decoding",
    )
    add("--quality", type=int, default=90, help="of JPEGs made by --resize, 1 to 95")
    add(
        "--eval_fraction",
        type=float,
        default=0.0,
        help="share held out as validation, of files without splits",
    )
    add(
        "--task",
        default="classification",
        help="multilabel: several labels; detection: boxes; "
        "instances: boxes and outlines; segmentation: maps of classes",
    )
    add("--rebuild", action="store_true", help="make a data set of files anew, e.g. after a change")
    add(
        "--workers",
        type=number(int, least=0),
        default=0,
        help="processes; default: one per CPU core",
    )
    add("--preview", metavar="PNG", help="instead: draw the augmentations of --config's data")
    add("--manual_dir", default="", help="where archives are; default: DIR/downloads/manual")


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    if args.preview:
        config = config.copy_and_resolve_references()
        config.data.cache = False  # nothing is kept for a preview
        if here:
            check_output(Path(os.path.expanduser(args.preview)), "--preview")
        return check_source(config, here=here)
    if not args.dataset:
        raise ConfigError(
            "--dataset is missing: a TFDS name, folder:PATH, zip:FILE, csv:FILE, tfrecord:DIR, or "
            "with another --task coco:PATH, voc:PATH, yolo:PATH, masks:PATH"
        )
    asked = (args.resize, args.encoding, args.quality, args.eval_fraction)
    check_preparation(args.dataset, args.name, *asked)
    check_task(args.task)
    if here:
        check_files(args.dataset)


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    if args.preview:
        from imagenet_jax.reports.preview import preview

        say_without_stages(config)
        reads = find_task(config.task).reads_of(config)
        return preview(config, Path(os.path.expanduser(args.preview)), reads)
    task = find_task(args.task)
    if not task.reads:
        raise ConfigError(
            f"--task={args.task}: a data set is prepared for one task; train on the files as they "
            "are, or on a TFDS data set that has all fields"
        )
    with working("loading TensorFlow"):
        from imagenet_jax.data.preparation.prepare import prepare
        from imagenet_jax.data.preparation.shards import Encoding

    report = prepare(
        args.dataset,
        data_dir=args.dir,
        name=args.name,
        file_format=args.file_format,
        encoding=Encoding(args.resize, args.encoding, args.quality),
        eval_fraction=args.eval_fraction,
        workers=args.workers,
        manual_dir=os.path.expanduser(args.manual_dir),
        reads=task.reads,
        rebuild=args.rebuild,
    )
    if task.has_boxes or task.has_maps:
        with working("drawing some examples"):
            try:
                report["examples"] = _drawn(report, args)
            except (OSError, DataError) as error:
                say(f"warning: examples.png cannot be drawn: {error}")
    return report


def _drawn(report: dict[str, Any], args: argparse.Namespace) -> str:
    """Draws the first examples of a prepared data set with what is known of them; the file."""
    from imagenet_jax.reports.sheet import sheet_of_images
    from imagenet_jax.tasks import make_task, task_split

    config = base_config()
    config.task = args.task
    splits = list(report["splits"])
    config.data.update(name=report["name"], dir=args.dir, train_crop="letterbox")
    config.data.update(bad_images="skip", max_bad_fraction=1.0)
    config.data.train_split = "train" if "train" in splits else splits[0]
    split = task_split(config, train=True)
    task = make_task(config, split)
    batch = split.examples(np.arange(min(_EXAMPLES, split.num_examples)))
    sheet = sheet_of_images(*task.seen(*task.inputs(batch, None, None, train=False)))
    path = Path(report["path"]) / "examples.png"
    with replacing(path) as partial:
        sheet.save(partial, "PNG")
    return str(path)


def _text(report: dict[str, Any]) -> str:
    if "rows" in report:
        from imagenet_jax.reports.preview import preview_text

        return preview_text(report)
    from imagenet_jax.data.preparation.verification import report_text

    text = report_text(report)
    return f"{text}\n  drawn: {report['examples']}" if "examples" in report else text


def _next(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """How to train on the data set."""
    if args.preview:
        return []
    fields = {"data.name": result["name"], "data.dir": args.dir, "task": args.task}
    splits = list(result["splits"])
    train = "train" if "train" in splits else splits[0]
    found = [name for name in (*VALIDATION, *TEST) if name in splits]
    fields["data.train_split"] = train if found else f"{train}[:90%]"
    fields["data.eval_split"] = found[0] if found else f"{train}[90%:]"
    config = _CONFIGS.get(args.task, "finetune")
    usual = load_config(config)
    there = {"task": usual.task, **{f"data.{name}": value for name, value in usual.data.items()}}
    given = [f"--config.{name}={text}" for name, text in fields.items() if there[name] != text]
    return [f"{args.program} {shlex.join([f'--config={config}', *given])}"]


PREPARE = Verb(
    "build or import a data set, and verify it",
    _add_flags,
    _run,
    _text,
    check=_check,
    next=_next,
)
