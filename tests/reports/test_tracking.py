"""TensorBoard; Weights & Biases and MLflow, offline."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from imagenet_jax import augment
from imagenet_jax.data import open_split
from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.preemption import StopRequests
from imagenet_jax.reports import tracking
from imagenet_jax.training.loop import train


@contextlib.contextmanager
def stop_at_two():
    stop, answers = StopRequests(), iter((False, True))
    stop.reached = lambda: next(answers)
    yield stop


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, module_config):
    """Of a run that both follow: half of it, and the rest of it in another go."""
    for package in ("mlflow", "wandb"):
        pytest.importorskip(package)
    workdir, config = tmp_path_factory.mktemp("tracked"), module_config
    config.log.mlflow = config.log.wandb = "tiny"
    config.log.tensorboard = True
    config.duration, config.log.every = "4 steps", "1 steps"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in {"MODE": "offline", "SILENT": "true", "DATA_DIR": str(workdir)}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        with monkeypatch.context() as inner:
            inner.setattr("imagenet_jax.training.loop.stop_requests", stop_at_two)
            assert train(config, workdir, tracking=tracking.make_tracking(config)) is None
        assert train(config, workdir, tracking=tracking.make_tracking(config))["step"] == 4
    return workdir


@pytest.mark.slow
@pytest.mark.xdist_group("tracked")
def test_mlflow_has_the_metrics_of_a_resumed_run(workdir):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{workdir}/mlflow.db")
    run = client.get_run((workdir / "mlflow_run_id").read_text())
    assert run.data.params["model.name"] == "resnet8" and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    expected = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert {metric.step: metric.value for metric in history} == expected
    assert len(expected) == 4


@pytest.mark.slow
@pytest.mark.xdist_group("tracked")
def test_tensorboard_has_the_config_as_text_and_what_is_not_its_default(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import (
        SESSION_START_INFO_TAG,
        parse_session_start_info_plugin_data,
    )

    events = EventAccumulator(str(workdir))
    events.Reload()
    (text,) = events.Tensors("config")[0].tensor_proto.string_val
    assert "| model.name | resnet8 |" in text.decode() and "| optim.b1 | 0.9 |" in text.decode()
    content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    fields = parse_session_start_info_plugin_data(content).hparams
    assert fields["model.name"].string_value == "resnet8" and "optim.b1" not in fields


@pytest.mark.slow
@pytest.mark.xdist_group("tracked")
def test_tensorboard_has_the_first_batch_and_what_goes_wrong_once(workdir, module_config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workdir)).Reload()

    def shown(tag):
        (event,) = events.Tensors(tag)
        width, height, png = event.tensor_proto.string_val
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        assert picture.size == (int(width), int(height))
        return event.step, picture

    for name in ("confusion", "most_wrong"):
        step, picture = shown(f"eval/{name}")
        with Image.open(workdir / "evaluation" / f"{name}.png") as file:
            assert step == 4 and np.array_equal(picture, file.convert("RGB"))
    # As the step sees the whole batch, by the key that the state draws from.
    split = open_split(module_config, train=True)
    batch = next(split.train_batches(np.arange(module_config.batch_size), 0, 1))
    _, key = jax.random.split(jax.random.key(module_config.seed))
    inputs, _ = augment.train_inputs(batch, key, 0, module_config.augment)
    pixels = 255 * (np.asarray(inputs) * module_config.augment.std + module_config.augment.mean)
    step, sheet = shown("train/first_batch")
    assert step == 1 and sheet.width == 4 + 8 * 116
    for number in (0, 3):
        tile = sheet.crop((4 + 116 * number, 4, 116 + 116 * number, 116))
        expected = Image.fromarray(np.round(pixels[number]).clip(0, 255).astype(np.uint8))
        assert np.array_equal(tile, expected.resize((112, 112), Image.Resampling.NEAREST))


@pytest.mark.slow
@pytest.mark.xdist_group("tracked")
def test_wandb_has_one_run_for_a_resumed_one(workdir):
    identity = (workdir / "wandb_run_id").read_text()
    runs = sorted((workdir / "wandb").glob(f"offline-run-*-{identity}"))
    assert runs and all(list(run.glob("*.wandb")) for run in runs)
    stored = b"".join(file.read_bytes() for run in runs for file in run.glob("*.wandb"))
    assert b"train/loss" in stored and b"eval/top1" in stored and b"resnet8" in stored


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(tiny_config, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tiny_config.log[name] = "project"
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        tracking.make_tracking(tiny_config)


def test_tensorboard_shows_each_step_once_after_a_kill(tiny_config, tmp_path):
    """Killed at 20, twice, with a checkpoint of 10."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    for begin, loss in ((0, 3.0), (10, 2.0), (10, 1.0)):
        writer, _ = tracking.clu_tracking(tiny_config, tmp_path, begin, 30)
        for step in range(begin + 5, 21, 5):
            writer.write_scalars(step, {"train/loss": loss})
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload().Tensors("train/loss")
    shown = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events]
    assert shown == [(5, 3.0), (10, 3.0), (15, 1.0), (20, 1.0)]
