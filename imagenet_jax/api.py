"""The functions that `import imagenet_jax` gives; docs/api.md describes them."""

import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.config import apply_fields, base_config, validate
from imagenet_jax.config import load_config as load_file_config
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.models import MODELS, Backbone
from imagenet_jax.reports.tracking import make_tracking
from imagenet_jax.reports.workdir import check_run_folder
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.training import loop
from imagenet_jax.training.checks import check_fields, check_training
from imagenet_jax.training.data_dependent import data_dependent_variables
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.program import Program, make_program
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.stages import make_stages, stage_batches
from imagenet_jax.training.state import TrainState
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.load import load_file, load_pretrained
from imagenet_jax.weights.pretrained import PRETRAINED, find_pretrained


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """The names of models, or of weights.

    Args:
      pattern: for example "resnet*".
      pretrained: list the weights that are known, as MODEL.TAG.
    """
    return fnmatch.filter(PRETRAINED if pretrained else MODELS, pattern)


def load_model(
    name: str,
    *,
    file: str | Path = "",
    num_classes: int | None = None,
    image_size: int | None = None,
) -> tuple[Backbone, dict[str, Any]]:
    """A model with pretrained weights in float32; `create_model` makes one without.

    Args:
      name: of weights, fetched if need be; with `file` of a model.
      file: of weights: .pth, .safetensors, .npz, and what else torch.save writes.
      num_classes: None: those of the weights. Else the head is new: zeros.
      image_size: in pixels; position embeddings are resampled for it. None: as they are.

    Returns:
      A Linen module, and its variables, NumPy arrays: params and batch_stats.

    Raises:
      ConfigError: if there are no such weights.
      WeightsError: if they cannot be fetched or read, or do not fit.
    """
    if file:
        loaded = load_file(Path(file).expanduser(), name, may_lack_head=num_classes is not None)
    else:
        loaded = load_pretrained(find_pretrained(name))
    model, size = loaded.model, image_size or loaded.image_size or 224
    if num_classes is not None:
        model = model.clone(num_classes=num_classes)
        return model, adapt(loaded.variables, model, size, new_head=True)
    if loaded.image_size not in (None, size):
        return model, adapt(loaded.variables, model, size, new_head=False)
    return model, loaded.variables


def load_config(
    name: str | Path = "", fields: Mapping[str, Any] | None = None
) -> ml_collections.ConfigDict:
    """A config, checked.

    Args:
      name: as of --config: of a config that comes with the program, as "resnet50" or
        "finetune:efficientnet_lite0,head", or a file; "": the defaults of all fields.
      fields: what is to be changed, as {"data.name": "folder:photos", "duration": "3 epochs"}.

    Raises:
      ConfigError: if there is no such config or field, or a value is not possible.
    """
    config = load_file_config(name) if name else base_config()
    apply_fields(config, fields or {})
    check_fields(config)
    return config


def batches(
    config: ml_collections.ConfigDict, *, train: bool, start: int = 0, stop: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """What the data pipeline of a config gives, on one host.

    Args:
      config: its data, batch_size, seed and duration, or eval.batch_size, say what comes.
      train: the training split, augmented on the host as the config says, epoch after epoch, each
        in an order of its own; else every example of the evaluation split once.
      start, stop: steps of the training, at any of which the stream can begin; None: the end of
        config.duration.

    Yields:
      image uint8 [B, S, S, 3], [B, views * S, S, 3] with data.views; what the task reads, as
      label int32 [B]; mask bool [B], False for padding and images that cannot be read; index
      int32 [B], the number of the example; epoch int32 [B].

    Raises:
      ConfigError, DataError: if there is no such data set, or it cannot be read.
    """
    check_fields(config)
    split = task_split(config, train=train)
    task, mesh = make_task(config, split), make_mesh(config.sharding)
    if train:
        program = make_program(task, mesh, num_examples=split.num_examples)
        total = program.total_steps
        stages = make_stages(program, start)
        return stage_batches(stages, split, start, total if stop is None else stop)
    size = make_program(task, mesh).eval_batch_size(split.num_examples)
    return split.eval_batches(np.arange(size), size)


def training_program(config: ml_collections.ConfigDict) -> Program:
    """What a config means on the devices that are attached: model, optimizer, compiled steps.

    Args:
      config: its training data are opened, for their classes and their number.

    Returns:
      A `training.Program`: `compile_train_step()` and `compile_eval_step(num_examples)` give
      compiled programs (`jax.stages.Compiled`), `put_batch(batch)` brings a batch to the devices.

    Raises:
      ConfigError, DataError: for what is wrong with the config or its data.
    """
    validate(config)
    mesh = make_mesh(config.sharding)
    check_config(config, mesh)
    split = task_split(config, train=True)
    return make_program(make_task(config, split), mesh, num_examples=split.num_examples)


def starting_state(program: Program) -> TrainState:
    """The state at step 0 on the devices, with the weights that config.finetune.weights names.

    Without them airbench's first layer is data_dependent to the first training images.

    Raises:
      ConfigError, WeightsError, CheckpointError: if these cannot be fetched or read, or do not fit.
      DataError: if the training images are needed and are not there.
    """
    start = starting_variables(program) or data_dependent_variables(
        program, lambda: task_split(program.config, train=True)
    )
    return program.init_state(start)


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    *,
    allow_config_change: bool | list[str] = False,
) -> dict[str, Any] | None:
    """Trains to the end of config.duration, and evaluates; goes on with a run that was begun.

    Args:
      config: what is trained.
      workdir: gets checkpoints, metrics, curves, summary.json and what goes wrong.
      allow_config_change: go on although the config is another one than the run began with; a
        list of fields: where only these are.

    Returns:
      What summary.json holds; None if an interrupt stopped the run, which is saved: the same
      call goes on.

    Raises:
      UserError: for what is wrong with the config, the data or the working directory.
    """
    check_fields(config)
    check_training(config, here=True)
    workdir = Path(workdir).expanduser()
    check_run_folder(workdir)
    tracking = make_tracking(config)
    return loop.train(config, workdir, tracking=tracking, allow_config_change=allow_config_change)
