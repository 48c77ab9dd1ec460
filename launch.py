"""The front door: python launch.py [VERB] [--config=FILE] [--workdir=DIR] [--config.FIELD=VALUE]

Flags and process start-up, nothing else. README.md explains the verbs.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from imagenet_jax.benchmark import benchmark_input, input_table, plot_input
from imagenet_jax.classifier import (
    pretrained_classifier,
    pretrained_config,
    trained_classifier,
)
from imagenet_jax.config import apply_overrides, from_json, load_config, validate
from imagenet_jax.data.catalog import evaluation_split
from imagenet_jax.errors import ConfigError, UserError
from imagenet_jax.evaluate import evaluate, evaluate_classifier
from imagenet_jax.predict import draw_predictions, predict, predictions_table
from imagenet_jax.probe import probe, probe_text
from imagenet_jax.process import start_process
from imagenet_jax.report import summary_table
from imagenet_jax.train import train
from imagenet_jax.weights.listing import list_models, models_text
from imagenet_jax.writers import clu_tracking, write_summary

QUICKSTART = Path(__file__).resolve().parent / "configs" / "quickstart.py"


@dataclasses.dataclass(frozen=True)
class Verb:
    """What a verb means, which flags it has beside the common ones, what it does and shows."""

    meaning: str
    add_flags: Callable[[argparse.ArgumentParser], Any]
    run: Callable[[argparse.Namespace, ml_collections.ConfigDict], dict[str, Any] | None]
    text: Callable[[dict[str, Any]], str] = summary_table


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit status."""
    try:
        args, overrides = parse(argv)
        start_process()
        summary = VERBS[args.verb].run(args, make_config(args, overrides))
    except UserError as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"{error.filename or args.workdir}: {error.strerror or error}")
    except KeyboardInterrupt:
        return failed("interrupted; the same command goes on where it can")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return failed(
            f"the devices are out of memory: {error}. Lower config.batch_size, or keep it and "
            "raise config.accumulate"
        )
    if summary is not None and jax.process_index() == 0:
        print(VERBS[args.verb].text(summary))
        if args.json:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            write_summary(Path(args.json), summary)
    return 0


def run_train(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict | None:
    """Trains; None if a signal stopped it."""
    return train(
        config,
        args.workdir,
        tracking=clu_tracking if config.log.tensorboard else None,
        allow_config_change=args.allow_config_change,
    )


def train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow_config_change",
        action="store_true",
        help="resume although the config differs from the checkpoint's",
    )


def run_evaluate(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    if not args.model and not args.probe:
        return evaluate(config, args.workdir, which=args.checkpoint)
    if args.model:
        classifier = pretrained_classifier(args.model, config, args.weights)
    else:
        classifier = trained_classifier(args.workdir, args.checkpoint, config)
    return probe(classifier, args.probe) if args.probe else evaluate_classifier(classifier)


def evaluate_text(result: dict[str, Any]) -> str:
    return probe_text(result) if "linear_probe" in result else summary_table(result)


def evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", default="latest", help="latest (default), best or a step number"
    )
    weights_flags(parser)
    parser.add_argument("--dataset", default="", help="with --model: as config.data.name")
    parser.add_argument("--split", default="", help="with --dataset; default: validation or test")
    parser.add_argument(
        "--probe",
        default="",
        metavar="SPLIT",
        help="instead: linear probe and few-shot accuracy of the features, learnt from SPLIT",
    )


def weights_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="", help="pretrained weights, e.g. resnet50 or resnet50.tv_in1k"
    )
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="with --model: .pth, .safetensors or .npz"
    )


def run_predict(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    if args.model:
        classifier = pretrained_classifier(args.model, config, args.weights)
    else:
        classifier = trained_classifier(args.workdir, args.checkpoint, config)
    result = predict(classifier, args.photos)
    picture = Path(args.picture) if args.picture else args.workdir / "predictions.png"
    draw_predictions(result, picture)
    return result | {"picture": str(picture)}


def predict_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", help="image files")
    parser.add_argument(
        "--checkpoint", default="latest", help="without --model: of the run in --workdir"
    )
    weights_flags(parser)
    parser.add_argument("--picture", help="PNG; default: WORKDIR/predictions.png")


def run_models(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    return list_models(args.filter)


def models_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", default="", help="part of a name, or a pattern with * and ?")


def run_prepare(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    from imagenet_jax.data.prepare import prepare
    from imagenet_jax.data.shards import Encoding

    if args.preview:
        from imagenet_jax.preview import preview

        return preview(config, Path(args.preview))
    if not args.dataset:
        raise ConfigError(
            "--dataset is missing: a TFDS name, folder:PATH, zip:FILE, csv:FILE or tfrecord:DIR"
        )
    return prepare(
        args.dataset,
        data_dir=args.dir,
        name=args.name,
        file_format=args.file_format,
        encoding=Encoding(args.resize, args.encoding, args.quality),
        eval_fraction=args.eval_fraction,
        workers=args.workers,
        manual_dir=args.manual_dir,
    )


def prepare_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--dataset",
        help="a TFDS name, folder:PATH, zip:FILE, csv:FILE (path,label[,split]), tfrecord:DIR",
    )
    add("--dir", default="", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    add("--name", default="", help="name of the new data set; default: after the source")
    add(
        "--file_format",
        choices=("array_record", "tfrecord"),
        default="",
        help="default: array_record, for --encoding=raw tfrecord",
    )
    add("--resize", type=int, default=0, metavar="PIXELS", help="shrink short sides to this")
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
    add("--workers", type=int, default=0, help="processes; default: one per CPU core")
    add("--preview", metavar="PNG", help="instead: draw the augmentations of --config's data")
    add("--manual_dir", default="", help="where archives are; default: DIR/downloads/manual")


def prepare_text(report: dict[str, Any]) -> str:
    if "rows" in report:
        from imagenet_jax.preview import preview_text

        return preview_text(report)
    from imagenet_jax.data.verification import report_text

    return report_text(report)


def run_benchmark(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    result = benchmark_input(config, args.seconds)
    args.workdir.mkdir(parents=True, exist_ok=True)
    plot_input(result, args.workdir / "input.png")
    return result


def benchmark_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--what", choices=["input"], default="input", help="input: from files to devices"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of measurement")


VERBS = {
    "train": Verb("train (or resume) and evaluate", train_flags, run_train),
    "evaluate": Verb(
        "exact evaluation of a checkpoint or of pretrained weights",
        evaluate_flags,
        run_evaluate,
        evaluate_text,
    ),
    "predict": Verb(
        "the most probable classes of photos", predict_flags, run_predict, predictions_table
    ),
    "models": Verb("the table of models", models_flags, run_models, models_text),
    "prepare": Verb(
        "build or import a data set, and verify it", prepare_flags, run_prepare, prepare_text
    ),
    "benchmark": Verb(
        "how fast this machine feeds the devices, and where the time goes",
        benchmark_flags,
        run_benchmark,
        input_table,
    ),
}


def failed(message: str) -> int:
    """Prints the message and gives the exit status; ends the job if there are other processes."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        # The others may wait for this one in a collective: leaving at once ends them all.
        os._exit(1)
    return 1


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Splits the command line into flags and {"FIELD": "VALUE"}. Raises ConfigError."""
    argv, verb = list(argv), "train"
    if argv and not argv[0].startswith("-"):
        verb = argv.pop(0)
    if verb not in VERBS:
        raise ConfigError(f"there is no verb {verb!r}; there are {', '.join(VERBS)}")
    verbs = "\n".join(f"  {name:10} {known.meaning}" for name, known in VERBS.items())
    parser = argparse.ArgumentParser(
        prog=f"launch.py {verb}",
        description=f"{VERBS[verb].meaning}. Verbs, the first of which is the default:\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.FIELD=VALUE sets a field of the config, e.g. --config.batch_size=64; "
        "imagenet_jax/schema.py lists them",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="a config file; default: configs/quickstart.py")
    parser.add_argument("--workdir", help="where the run is kept; default: runs/CONFIG_NAME")
    parser.add_argument("--json", help="also write the result to this file as JSON")
    VERBS[verb].add_flags(parser)
    fields = [arg for arg in argv if arg.startswith("--config.")]
    for field in fields:
        if "=" not in field:
            raise ConfigError(f"{field}: write it as {field}=VALUE")
    args = parser.parse_args([arg for arg in argv if arg not in fields])
    args.verb = verb
    if "://" in (args.workdir or ""):
        raise ConfigError(f"--workdir={args.workdir} is a URL; give the path of a mounted folder")
    default = Path(str(args.config or QUICKSTART).partition(".py:")[0]).stem
    if getattr(args, "model", ""):
        default = f"{verb}/{args.model}"
    args.workdir = Path(args.workdir or f"runs/{default}")
    return args, dict(f.removeprefix("--config.").split("=", 1) for f in fields)


def make_config(args: argparse.Namespace, overrides: dict[str, str]) -> ml_collections.ConfigDict:
    """The config file with the overrides.

    `evaluate` and `predict` default to the config of the run, or to that of pretrained weights.
    """
    saved = args.workdir / "config.json"
    model = getattr(args, "model", "")
    if model and args.config:
        raise ConfigError("--model brings its own config; set its fields by --config.FIELD=VALUE")
    if not model:
        for flag in ("weights", "dataset", "split"):
            if args.verb in ("evaluate", "predict") and getattr(args, flag, ""):
                raise ConfigError(f"--{flag} goes with --model; a run has --config.data.name")
    if model:
        config = pretrained_config(args.model)
        if args.verb == "evaluate":
            config.data.name = args.dataset or config.data.name
            config.data.dir = overrides.get("data.dir", "")
            split = args.split or evaluation_split(config.data.name, config.data.dir)
            config.data.eval_split = split
    elif args.verb in ("evaluate", "predict") and not args.config and saved.exists():
        try:
            config = from_json(saved.read_text())
        except ValueError as error:
            raise ConfigError(f"{saved} cannot be read: {error}") from error
    else:
        config = load_config(args.config or QUICKSTART)
    apply_overrides(config, overrides)
    validate(config)
    return config


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    if status:
        os._exit(status)  # else orbax's threads bury the message under tracebacks of their own
