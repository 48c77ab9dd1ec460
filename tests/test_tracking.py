"""Weights & Biases and MLflow, offline."""

import json

import pytest

from imagenet_jax import tracking
from imagenet_jax.errors import ConfigError
from imagenet_jax.train import train


def train_twice(config, workdir, monkeypatch):
    """Half of a run, and the rest of it."""
    config.duration = "10 steps"
    monkeypatch.setattr("imagenet_jax.train.stop_requests", stop_at_five)
    assert train(config, workdir, tracking=tracking.make_tracking(config)) is None
    monkeypatch.undo()
    assert train(config, workdir, tracking=tracking.make_tracking(config))["step"] == 10


class stop_at_five:
    def __enter__(self):
        return lambda step: step == 5

    def __exit__(self, *unused):
        pass


def test_mlflow_has_the_metrics_of_a_resumed_run(tiny_config, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_config.log.mlflow = "tiny"
    train_twice(tiny_config, tmp_path, monkeypatch)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.get_run((tmp_path / "mlflow_run_id").read_text())
    assert run.data.params["model.name"] == "resnet8" and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    expected = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert {metric.step: metric.value for metric in history} == expected


def test_wandb_has_one_run_for_a_resumed_one(tiny_config, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    tiny_config.log.wandb = "tiny"
    with monkeypatch.context() as inner:
        train_twice(tiny_config, tmp_path, inner)
    identity = (tmp_path / "wandb_run_id").read_text()
    runs = sorted((tmp_path / "wandb").glob(f"offline-run-*-{identity}"))
    assert runs and all(list(run.glob("*.wandb")) for run in runs)
    stored = b"".join(file.read_bytes() for run in runs for file in run.glob("*.wandb"))
    assert b"train/loss" in stored and b"eval/top1" in stored and b"resnet8" in stored


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(tiny_config, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tiny_config.log[name] = "project"
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        tracking.make_tracking(tiny_config)
