"""Experiment tracking beside metrics.jsonl: TensorBoard through clu, Weights & Biases, MLflow."""

import importlib.util
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.atomic import replace_text
from imagenet_jax.config import flatten
from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.writers import Tracking, Writer


def make_tracking(config: ml_collections.ConfigDict) -> list[Tracking]:
    """What config.log asks for.

    Raises:
      ConfigError: for a service whose package is not installed.
    """
    log, found = config.log, []
    for name in ("wandb", "mlflow"):
        if log[name] and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"config.log.{name} = {log[name]!r} needs a package: pip install {name}"
            )
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
    """clu's writers to TensorBoard and to the log, and its periodic actions.

    Args:
      config: of the run; log.profile_steps are traced from the tenth after the start on.
      workdir: where event files and profiles go.
      start: steps done before.
      total: length of the run in steps, for the time left.

    Returns:
      The writer, and hooks to be called with the number of each step done.
    """
    # Before clu imports TensorFlow: this one hides the accelerators from it, and keeps it quiet.
    import imagenet_jax.data.host_tensorflow  # noqa: F401  # isort: skip
    from clu import metric_writers, periodic_actions  # isort: skip

    _start_session(workdir, start)
    writer = metric_writers.MultiWriter(
        [metric_writers.SummaryWriter(str(workdir)), metric_writers.LoggingWriter()]
    )
    hooks = [periodic_actions.ReportProgress(num_train_steps=total, writer=writer)]
    if config.log.profile_steps:
        hooks.append(
            periodic_actions.Profile(
                logdir=str(workdir),
                num_profile_steps=config.log.profile_steps,
                first_profile=start + 10,
                profile_duration_ms=None,
                every_secs=None,
            )
        )
    return writer, hooks


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


def wandb_tracking(
    config: ml_collections.ConfigDict, workdir: Path, start: int, total: int
) -> tuple[Writer, list[Callable[[int], Any]]]:
    """A run of Weights & Biases' project config.log.wandb; arguments as of `clu_tracking`.

    A resumed run goes on there. WANDB_MODE=offline keeps it in WORKDIR/wandb, for `wandb sync`.
    """
    return _Wandb(config, workdir), []


class _Wandb:
    def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
        import wandb

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
    """
    return _Mlflow(config, workdir), []


class _Mlflow:
    def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
        import mlflow

        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{workdir.absolute()}/mlflow.db")
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
            for name, value in flatten(config):
                self._client.log_param(run.info.run_id, name, value)
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
