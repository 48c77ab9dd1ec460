"""`launch.py compress`: smaller forms of a network, recovered by training, and what each costs."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.atomic import replace_text
from imagenet_jax.deploy.blocks import without_blocks
from imagenet_jax.deploy.channels import without_channels
from imagenet_jax.deploy.compress_picture import draw_variants
from imagenet_jax.deploy.measured import Call, latencies, program_call, sizes
from imagenet_jax.deploy.quantization import calibration_images, quantized, sensitivity
from imagenet_jax.deploy.runtimes import in_runtimes
from imagenet_jax.deploy.variants import BLOCKS, CHANNELS, OWN_SCOPE, REMOVED, Variant, config_of
from imagenet_jax.deploy.weights import without_weights
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.evaluate import evaluate_trained
from imagenet_jax.reports.outputs import make_workdir
from imagenet_jax.reports.workdir import reported_checkpoint
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.terminal import say, working
from imagenet_jax.training.loop import train
from imagenet_jax.training.start import write_start
from imagenet_jax.training.trained import TrainedModel, trained_model

FACTS, PICTURE, WEIGHTS = "compress.json", "compress.png", "weights.safetensors"
WHOLE = "whole"
_ALONE = 32  # images on which each layer is tried as the only one in int8


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      variants: see `variants.parse_variants`.
      duration: of the training in which each recovers, as "5 epochs"; "": none.
      scope, importance: of `variants.SCOPES` and IMPORTANCES; "": the structure's own.
      teacher: see config.distill.weights; "": the config's.
      skip: see config.model.quantize_skip.
      said: see `variants.config_of`.
    """

    variants: tuple[Variant, ...]
    duration: str = ""
    scope: str = ""
    importance: str = "l2"
    teacher: str = ""
    skip: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def compress(trained: TrainedModel, request: Request, out: Path) -> dict[str, Any] | None:
    """Prunes and quantizes a network, trains what is left on, and compares all with the whole one.

    Each variant gets a working directory in `out`, which goes on where it was if it is there.

    Args:
      trained: the network; its config says how it is trained.
      request: what is made of it.
      out: the folder; gets compress.json and compress.png, too.

    Returns:
      What compress.json has, and out: model, dataset, split, num_examples, metric, duration,
      variants (name, workdir, METRIC and at_once, the same before it recovered, parameters,
      nonzero, gmacs, file, bytes, gzip_bytes, latency_ms by batch size), the whole network first.
      Metrics are None without data. Of int8 the variant is computed in floating point, has no file
      and latency, but calibrated_on and sensitivity, see `quantization`; behind it are the rows of
      its files, see `runtimes`. None if a signal stopped it.

    Raises:
      ConfigError: for what cannot be pruned, or training on data of other classes.
      DataError: for training without data.
      UserError: as of `loop.train`.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"compress is for one process, and this job has {jax.process_count()}")
    make_workdir(out)
    # What is compressed is that of one config, whatever has changed the network before.
    config = trained.config.copy_and_resolve_references()
    config.finetune.update(weights="", mode="full")
    task = dataclasses.replace(trained.task, config=config)
    trained = dataclasses.replace(trained, task=task)
    examples, metric = _examples(trained, bool(request.duration)), task.best_of(config)
    whole = _evaluated(trained)
    rows = [{"name": WHOLE, "workdir": None, metric: whole and whole[metric]}]
    found, calls = {WHOLE: trained}, {WHOLE: partial(program_call, trained)}
    rows[0] |= sizes(trained, out / WEIGHTS)
    for variant in request.variants:
        base = found[variant.base.name if variant.base else WHOLE]
        made = _made(base, variant, request, out / variant.folder, examples, bool(whole))
        if made is None:
            return None
        found[variant.name], more, runs = made
        rows, calls = rows + more, calls | runs
    with working("measuring"):
        times = latencies(calls)
    for row in rows:
        row["latency_ms"] = times.get(row["name"])
    result = {
        "model": trained.name,
        "dataset": config.data.name if whole else None,
        "split": whole and whole["split"],
        "num_examples": whole and whole["num_examples"],
        "metric": metric,
        "duration": request.duration,
        "device_kind": jax.devices()[0].device_kind,
        "variants": rows,
    }
    replace_text(out / FACTS, json.dumps(result, indent=1) + "\n")
    draw_variants(result, out / PICTURE)
    return {**result, "out": str(out), "picture": str(out / PICTURE)}


def _made(
    base: TrainedModel,
    variant: Variant,
    request: Request,
    workdir: Path,
    examples: int,
    evaluates: bool,
) -> tuple[TrainedModel, list[dict[str, Any]], dict[str, Call]] | None:
    """A variant of a network as it is in the end, its rows, and what runs them, by their names."""
    say(f"{variant.name}: {'finding ranges' if variant.quantize else 'pruning'}")
    images, about = calibration_images(base) if variant.quantize else (None, "")
    at_once, metric = _smaller(base, variant, request, images), base.task.best_of(base.config)
    before = _evaluated(at_once) if evaluates else None
    start = at_once
    if request.duration and variant.prunes_weights:  # on the way
        start = dataclasses.replace(at_once, variables=base.variables)
    write_start(start, workdir, examples)
    found, after = at_once, before
    if request.duration:
        if train(start.config, workdir) is None:
            return None
        found = trained_model(workdir, reported_checkpoint(start.config))
        after = _evaluated(found)
    row = {"name": variant.name, "workdir": str(workdir), metric: after and after[metric]}
    row |= {"at_once": before and before[metric]}
    row |= sizes(found, None if variant.quantize else workdir / WEIGHTS)
    if not variant.quantize:
        return found, [row], {variant.name: partial(program_call, found)}
    with working("trying each layer alone"):
        row |= {"calibrated_on": about, "sensitivity": sensitivity(found, images[:_ALONE])}
    rows, runs = in_runtimes(found, variant.name, workdir, images, evaluates)
    more = {name: row[name] for name in ("parameters", "nonzero", "gmacs")}
    return found, [row, *({**one, **more} for one in rows)], runs


def _examples(trained: TrainedModel, trains: bool) -> int:
    """Training examples per epoch; 0 where there are no data, and none are needed.

    Raises:
      ConfigError: if the data have other classes than the network.
      DataError: if there are none and the network is to be trained.
    """
    config = trained.config
    try:
        with working(f"opening {config.data.name}"):
            split = task_split(config, train=True)
    except DataError as error:
        if trains:
            raise
        say(f"nothing can be trained: {error}")
        return 0
    if make_task(config, split).facts() == trained.task.facts():
        return split.num_examples
    if trains:
        raise ConfigError(
            f"the classes of config.data.name = {config.data.name!r} are not those of "
            f"{trained.name}, which would be trained on them: fine-tune it on these data first and "
            "compress that run, or take --epochs=0"
        )
    return 0


def _evaluated(trained: TrainedModel) -> dict[str, Any] | None:
    """The result of an evaluation; None where there are no data, which is said."""
    try:
        return evaluate_trained(trained)["eval"]
    except DataError as error:
        say(f"nothing is evaluated: {error}")
        return None


def _smaller(
    trained: TrainedModel, variant: Variant, request: Request, images: np.ndarray | None
) -> TrainedModel:
    """The network as it is before it recovers; its config is that of the run to come."""
    names = ("duration", "teacher", "scope", "skip", "said")
    how = {name: getattr(request, name) for name in names}
    config = config_of(variant, trained.config, **how)
    task = dataclasses.replace(trained.task, config=config)
    found = dataclasses.replace(trained, task=task)
    if variant.quantize:
        return quantized(found, images, request.skip)
    if variant.structure not in REMOVED:
        return without_weights(trained, config)
    if variant.structure == BLOCKS:
        return without_blocks(found, variant.share)
    scope = request.scope or OWN_SCOPE[CHANNELS]
    return without_channels(found, variant.share, importance=request.importance, scope=scope)
