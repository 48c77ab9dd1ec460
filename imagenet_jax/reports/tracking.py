"""Experiment tracking beside metrics.jsonl: TensorBoard through clu, Weights & Biases, MLflow.

A service that cannot be reached when a run starts is an error, and later no more than a warning.
"""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.atomic import replace_text
from imagenet_jax.config import base_config, flatten
from imagenet_jax.errors import UserError
from imagenet_jax.reports.guarded import Background, GuardedImages
from imagenet_jax.reports.services import check_packages, services_of
from imagenet_jax.reports.writers import Tracking, Writer

# Until the first answer: with MLflow's own limits a run would begin with minutes of waiting.
_FIRST_CALLS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def make_tracking(config: ml_collections.ConfigDict) -> list[Tracking]:
    """What config.log asks for.

    Raises:
      ConfigError: for a service whose package is not installed.
    """
    log, found = config.log, []
    check_packages(services_of(config))
    if log.tensorboard:
        found.append(clu_tracking)
    if log.wandb:
        found.append(wandb_tracking)
    if log.mlflow:
        found.append(mlflow_tracking)
    return found


def clu_tracking(
    config: ml_collections.ConfigDict, workdir: Path, start: int, total: int
) -> tuple[Writer, list[Callable[[int], Any]]]:
    """clu's writer to TensorBoard, and its periodic actions.

    Args:
      config: of the run.
      workdir: where event files go.
      start: steps done before.
      total: length of the run in steps, for the time left.

    Returns:
      The writer, and hooks to be called with the number of each step done.
    """
    # Before clu imports TensorFlow: this one hides the accelerators from it, and keeps it quiet.
    import imagenet_jax.data.host_tensorflow  # noqa: F401  # isort: skip
    from clu import metric_writers, periodic_actions  # isort: skip

    _start_session(workdir, start)
    events = metric_writers.SummaryWriter(str(workdir))
    events.write_texts(start, {"config": config_table(config)})
    events.write_hparams(_changed(config))
    writer = GuardedImages("TensorBoard", events)
    return writer, [periodic_actions.ReportProgress(num_train_steps=total, writer=writer)]


def config_table(config: ml_collections.ConfigDict) -> str:
    """All fields, as a table in Markdown."""
    rows = ((name, str(value).replace("|", r"\|")) for name, value in flatten(config))
    return "\n".join(("| field | value |", "|---|---|", *(f"| {n} | {v} |" for n, v in rows)))


def _changed(config: ml_collections.ConfigDict) -> dict[str, bool | int | float | str]:
    """The fields that are not at their defaults: all of them would fill TensorBoard's page."""
    defaults = dict(flatten(base_config()))
    changed = {name: value for name, value in flatten(config) if value != defaults[name]}
    plain = bool | int | float | str
    return {n: value if isinstance(value, plain) else str(value) for n, value in changed.items()}


def _start_session(workdir: Path, start: int) -> None:
    """Tells TensorBoard that what earlier event files hold of steps after `start` is redone.

    Files are read in the order of their names, which begin with the second of their making.
    """
    from imagenet_jax.data.host_tensorflow import tf

    earlier = [path.name.split(".")[3] for path in workdir.glob("events.out.tfevents.*")]
    if not earlier:
        return
    second = max(earlier)
    name = f"events.out.tfevents.{second}.~session.{uuid.uuid4().hex}"  # after the others of it
    log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    with tf.io.TFRecordWriter(str(workdir / name)) as file:
        for fact in ({"file_version": "brain.Event:2"}, {"session_log": log, "step": start + 1}):
            event = tf.compat.v1.Event(wall_time=time.time(), **fact)
            file.write(event.SerializeToString())
    if int(time.time()) <= int(second):
        time.sleep(1.0)  # the next file's second is a later one


@contextlib.contextmanager
def _first_calls(service: str, field: str, instead: str = "") -> Iterator[None]:
    """Turns what a service raises at the start into a UserError."""
    try:
        yield
    except Exception as error:  # each raises its own
        reason = str(error).rstrip(".")
        raise UserError(
            f"{service} does not take this run: {reason}. {instead}--{field}= trains without"
        ) from error


def wandb_tracking(
    config: ml_collections.ConfigDict, workdir: Path, start: int, total: int
) -> tuple[Writer, list[Callable[[int], Any]]]:
    """A run of Weights & Biases' project config.log.wandb; arguments as of `clu_tracking`.

    A resumed run goes on there. WANDB_MODE=offline keeps it in WORKDIR/wandb, for `wandb sync`.

    Raises:
      UserError: if it cannot be reached, or lacks a key.
    """
    name = "Weights & Biases"
    with _first_calls(name, "config.log.wandb", "WANDB_MODE=offline sends it later, or "):
        return Background(name, _Wandb(config, workdir)), []


class _Wandb:
    def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
        import wandb

        # Else its end waits for a service that is away; what is left stays in WORKDIR/wandb.
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "30")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT_RAISES", "true")
        identity = workdir / "wandb_run_id"
        if not identity.exists():
            replace_text(identity, uuid.uuid4().hex[:8])
        self._run = wandb.init(
            project=config.log.wandb,
            name=workdir.name,
            id=identity.read_text(),
            resume="allow",
            dir=workdir,
            config=config.to_dict(),
        )
        # Its own counter may not go back, as a run does that resumes from a checkpoint.
        self._run.define_metric("*", step_metric="step")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log({**scalars, "step": step})

    def flush(self) -> None:
        """Its own process sends what was logged."""

    def close(self) -> None:
        self._run.finish()


def mlflow_tracking(
    config: ml_collections.ConfigDict, workdir: Path, start: int, total: int
) -> tuple[Writer, list[Callable[[int], Any]]]:
    """A run of MLflow's experiment config.log.mlflow; arguments as of `clu_tracking`.

    At $MLFLOW_TRACKING_URI, else in WORKDIR/mlflow.db. A resumed run goes on there.

    Raises:
      UserError: if it cannot be reached, or has no such run any more.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{workdir.absolute()}/mlflow.db")
    limits = {name: value for name, value in _FIRST_CALLS.items() if name not in os.environ}
    os.environ.update(limits)
    try:
        with _first_calls(f"MLflow at {uri}", "config.log.mlflow"):
            return Background("MLflow", _Mlflow(config, workdir, uri)), []
    finally:
        for name in limits:
            del os.environ[name]


class _Mlflow:
    def __init__(self, config: ml_collections.ConfigDict, workdir: Path, uri: str):
        import mlflow

        # They tell of each call that fails, where one warning is enough.
        for chatty in ("mlflow.store", "urllib3.connectionpool"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self._client = mlflow.MlflowClient(uri)
        self._metric = mlflow.entities.Metric
        identity = workdir / "mlflow_run_id"
        if not identity.exists():
            experiment = self._client.get_experiment_by_name(config.log.mlflow)
            number = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(config.log.mlflow)
            )
            run = self._client.create_run(number, run_name=workdir.name)
            fields = [mlflow.entities.Param(name, str(value)) for name, value in flatten(config)]
            for first in range(0, len(fields), 100):  # the most that a server takes at once
                self._client.log_batch(run.info.run_id, params=fields[first : first + 100])
            replace_text(identity, run.info.run_id)
        self._id = identity.read_text()
        self._client.update_run(self._id, status="RUNNING")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._metric(name, value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def flush(self) -> None:
        """Each call is sent at once."""

    def close(self) -> None:
        self._client.set_terminated(self._id)
