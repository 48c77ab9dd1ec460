"""Which model a verb takes that does not train: pretrained weights, or the run in --workdir."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.workdir import (
    check_which,
    checkpoints_of,
    reported_checkpoint,
    saved_config,
)
from imagenet_jax.verbs.verb import config_file
from imagenet_jax.weights.class_names import read_class_names
from imagenet_jax.weights.pretrained import check_file, find_pretrained, pretrained_config

if TYPE_CHECKING:  # it imports JAX
    from imagenet_jax.training.trained import TrainedModel


def add_weights_flags(parser: argparse.ArgumentParser) -> None:
    """--checkpoint, --model, --weights and --classes."""
    parser.add_argument(
        "--checkpoint",
        default="",
        help="of the run in --workdir: latest, best or a step; default: what it reported",
    )
    parser.add_argument(
        "--model", default="", help="pretrained weights, e.g. resnet50 or resnet50.tv_in1k"
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="FILE",
        help="of --model, or in place of a checkpoint of the run: .pth, .safetensors or .npz",
    )
    parser.add_argument(
        "--classes",
        default="",
        metavar="FILE",
        help="of --model and --weights: the names of its classes, a name a line or JSON; default: "
        "what the file says, or ImageNet's",
    )


def load(args: argparse.Namespace) -> ml_collections.ConfigDict:
    """The config of pretrained weights; of a file; of the run in --workdir.

    Raises:
      ConfigError: for flags that do not go together, or a config or weights that do not exist.
    """
    if args.model and args.config:
        raise ConfigError("--model brings its own config; set its fields by --config.FIELD=VALUE")
    if args.classes and not (args.weights and args.model):
        raise ConfigError(
            "--classes goes with --weights and --model; named weights and runs know their classes"
        )
    if args.weights and getattr(args, "checkpoint", ""):
        raise ConfigError("--weights and --checkpoint are both what is taken; give one of them")
    if args.model and getattr(args, "checkpoint", ""):
        raise ConfigError("--checkpoint is of a run in --workdir, and --model names weights")
    if args.model:
        return pretrained_config(args.model)
    for flag in ("dataset", "split"):
        if getattr(args, flag, ""):
            raise ConfigError(f"--{flag} goes with --model; a run has --config.data.name")
    config = None if args.config else saved_config(args.workdir)
    return config or config_file(args)


def which_checkpoint(args: argparse.Namespace, config: ml_collections.ConfigDict) -> str:
    """What --checkpoint says, else that of which the run in --workdir reported the evaluation."""
    return args.checkpoint or reported_checkpoint(saved_config(args.workdir) or config)


def check_weights(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    """Raises UserError if the weights or the checkpoint are not there; see `Verb.check`."""
    if args.model and not args.weights:
        find_pretrained(args.model)
    elif args.weights and here:
        if not args.model and not (args.workdir / "checkpoints").is_dir():
            raise ConfigError(
                f"--weights goes with --model, or with the --workdir of a run; {args.workdir} has "
                "none"
            )
        check_file(Path(os.path.expanduser(args.weights)))
        _class_names(args)
    elif here:
        check_which(checkpoints_of(args.workdir), which_checkpoint(args, config))


def find_trained(args: argparse.Namespace, config: ml_collections.ConfigDict) -> "TrainedModel":
    """The model with its variables.

    Raises:
      UserError: see `pretrained_model` and `trained_model`.
    """
    from imagenet_jax.inference.pretrained import pretrained_model
    from imagenet_jax.training.trained import trained_from_file, trained_model

    if args.model:
        return pretrained_model(args.model, config, args.weights, _class_names(args))
    if args.weights:
        return trained_from_file(args.workdir, Path(os.path.expanduser(args.weights)), config)
    return trained_model(args.workdir, which_checkpoint(args, config), config)


def _class_names(args: argparse.Namespace) -> tuple[str, ...]:
    return read_class_names(Path(os.path.expanduser(args.classes))) if args.classes else ()
