"""`launch.py compress`: smaller forms of a network, recovered by training, and what each costs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from imagenet_jax.atomic import replace_text
from imagenet_jax.deploy.blocks import without_blocks
from imagenet_jax.deploy.channels import without_channels
from imagenet_jax.deploy.compress_picture import draw_variants
from imagenet_jax.deploy.measured import latencies, sizes
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


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      variants: see `variants.parse_variants`.
      duration: of the training in which each recovers, as "5 epochs"; "": none.
      scope, importance: of `variants.SCOPES` and IMPORTANCES; "": the structure's own.
      teacher: see config.distill.weights; "": the config's.
      said: see `variants.config_of`.
    """

    variants: tuple[Variant, ...]
    duration: str = ""
    scope: str = ""
    importance: str = "l2"
    teacher: str = ""
    said: tuple[str, ...] = ()


def compress(trained: TrainedModel, request: Request, out: Path) -> dict[str, Any] | None:
    """Prunes a network, trains what is left on, and compares all with the whole network.

    Each variant gets a working directory in `out`, which goes on where it was if it is there.

    Args:
      trained: the network; its config says how it is trained.
      request: what is made of it.
      out: the folder; gets compress.json and compress.png, too.

    Returns:
      What compress.json has, and out: model, dataset, split, num_examples, metric, duration,
      variants (name, workdir, METRIC and at_once, the same before it recovered, parameters,
      nonzero, gmacs, file, bytes, gzip_bytes, latency_ms by batch size), the whole network first.
      Metrics are None without data. None if a signal stopped it.

    Raises:
      ConfigError: for what cannot be pruned, or training on data of other classes.
      DataError: for training without data.
      UserError: as of `loop.train`.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"compress is for one process, and this job has {jax.process_count()}")
    make_workdir(out)
    # What is pruned is that of one config, whatever has changed the network before.
    config = trained.config.copy_and_resolve_references()
    config.finetune.update(weights="", mode="full")
    task = dataclasses.replace(trained.task, config=config)
    trained = dataclasses.replace(trained, task=task)
    examples, metric = _examples(trained, bool(request.duration)), trained.task.best
    whole = _evaluated(trained)
    rows, models = [{"name": "whole", "workdir": None, metric: whole and whole[metric]}], {}
    models["whole"] = trained
    for variant in request.variants:
        say(f"{variant.name}: pruning")
        workdir, at_once = out / variant.folder, _pruned(trained, variant, request)
        before = _evaluated(at_once) if whole else None
        start = at_once
        if request.duration and variant.structure not in REMOVED:  # it is pruned on the way
            start = dataclasses.replace(at_once, variables=trained.variables)
        write_start(start, workdir, examples)
        found, after = at_once, before
        if request.duration:
            if train(start.config, workdir) is None:
                return None
            found = trained_model(workdir, reported_checkpoint(start.config))
            after = _evaluated(found)
        models[variant.name] = found
        row = {"name": variant.name, "workdir": str(workdir), metric: after and after[metric]}
        rows.append(row | {"at_once": before and before[metric]})
    with working("measuring"):
        for row in rows:
            folder = Path(row["workdir"] or out)
            row |= sizes(models[row["name"]], folder / WEIGHTS)
        for name, times in latencies(models).items():
            next(row for row in rows if row["name"] == name)["latency_ms"] = times
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


def _pruned(trained: TrainedModel, variant: Variant, request: Request) -> TrainedModel:
    """The network as it is before it recovers; its config is that of the run to come."""
    names = ("duration", "teacher", "scope", "said")
    how = {name: getattr(request, name) for name in names}
    config = config_of(variant, trained.config, **how)
    if variant.structure not in REMOVED:
        return without_weights(trained, config)
    task = dataclasses.replace(trained.task, config=config)
    found = dataclasses.replace(trained, task=task)
    if variant.structure == BLOCKS:
        return without_blocks(found, variant.share)
    scope = request.scope or OWN_SCOPE[CHANNELS]
    return without_channels(found, variant.share, importance=request.importance, scope=scope)


def compress_text(result: dict[str, Any]) -> str:
    """What `compress` returned, for people: a table, a row each variant."""
    metric, rows = result["metric"], result["variants"]
    first, several = rows[0], [*rows[0]["latency_ms"]]
    trained = result["duration"] and first[metric] is not None
    head = ["", metric, *(["at once"] if trained else []), "parameters", "non-zero", "GMACs"]
    head += [f"{count} image{'s' * (count != '1')}" for count in several]
    table = [[*head, "file", "gzip"]]
    for row in rows:
        cells = [row["name"], _told(row[metric], metric)]
        cells += [_told(row.get("at_once"), metric)] if trained else []
        cells += [f"{row['parameters']:,}", f"{row['nonzero']:,}", f"{row['gmacs']:.4g}"]
        for count in several:
            time, was = row["latency_ms"][count], first["latency_ms"][count]
            faster = "" if row is first else f" ({was / time:.2f} x)"
            cells.append(f"{_short(time)} ms{faster}")
        cells += [f"{_short(row[name] / 1e6)} MB" for name in ("bytes", "gzip_bytes")]
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
    about = f"and trained for {result['duration']} each" if result["duration"] else "at once"
    if result["dataset"]:
        count, split = result["num_examples"], result["split"]
        about += f", on {count:,} images of {result['dataset']}, {split}"
    else:
        about += "; nothing was evaluated"
    return "\n".join([f"{result['model']}, pruned {about}", "", *lines])


def _short(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _told(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if metric == "loss" else f"{100 * value:.2f} %"
