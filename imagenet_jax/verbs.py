"""The verbs of launch.py: the flags of each, what it calls, and how it shows the result."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.benchmark import benchmark_input, input_table, plot_input
from imagenet_jax.classifier import pretrained_classifier, trained_classifier
from imagenet_jax.errors import ConfigError
from imagenet_jax.evaluate import evaluate, evaluate_classifier
from imagenet_jax.predict import draw_predictions, predict, predictions_table
from imagenet_jax.probe import probe, probe_text
from imagenet_jax.report import summary_table
from imagenet_jax.sweep.verb import run_sweep, sweep_flags, sweep_text
from imagenet_jax.tracking import make_tracking
from imagenet_jax.train import train
from imagenet_jax.weights.listing import list_models, models_text


@dataclasses.dataclass(frozen=True)
class Verb:
    """What a verb means, which flags it has beside the common ones, what it does and shows."""

    meaning: str
    add_flags: Callable[[argparse.ArgumentParser], Any]
    run: Callable[[argparse.Namespace, ml_collections.ConfigDict], dict[str, Any] | None]
    text: Callable[[dict[str, Any]], str] = summary_table


def run_train(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict | None:
    """Trains; None if a signal stopped it."""
    return train(
        config,
        args.workdir,
        tracking=make_tracking(config),
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


def run_study(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict:
    from imagenet_jax.study.study import compare_reports, study

    if args.compare:
        return compare_reports(*map(Path, args.compare))
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


def study_text(result: dict[str, Any]) -> str:
    from imagenet_jax.study.text import study_text

    return study_text(result)


def study_flags(parser: argparse.ArgumentParser) -> None:
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
        type=lambda text: [int(number) for number in text.split(",")],
        default=[],
        help="images, one number or several; default: config.batch_size over the devices",
    )
    add("--scaling", type=scaling_topologies, help="KIND:SHAPE,SHAPE,..., e.g. v5e:2x2,4x4,8x8")
    add("--strong", type=int, default=0, help="with --scaling: a global batch to be divided")
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


def scaling_topologies(text: str) -> list[str]:
    """["v5e:2x2", "v5e:4x4"] of "v5e:2x2,4x4"."""
    kind, _, shapes = text.partition(":")
    return [f"{kind}:{shape.removeprefix(kind + ':')}" for shape in shapes.split(",")]


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
    "study": Verb(
        "what the compiled step costs, on the attached devices or on described ones",
        study_flags,
        run_study,
        study_text,
    ),
    "sweep": Verb(
        "train over a grid of configs, at random or by Bayesian search",
        sweep_flags,
        run_sweep,
        sweep_text,
    ),
}
