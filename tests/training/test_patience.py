"""When a run ends early, and which of its checkpoints it reports."""

import json

import pytest

from imagenet_jax.training.loop import train


def test_training_stops_when_it_gets_no_better(loop_config, tmp_path):
    loop_config.optim.learning_rate = 0.0
    loop_config.duration, loop_config.eval.every = "40 steps", "3 steps"
    loop_config.model.bn_momentum = 1.0
    loop_config.eval.patience, loop_config.eval.report = 2, "best"
    summary = train(loop_config, tmp_path)
    assert summary["trained_steps"] == 9
    again = train(loop_config, tmp_path)
    assert (again["trained_steps"], again["step"]) == (9, summary["step"])
    assert again["state_sha256"] == summary["state_sha256"]


@pytest.mark.slow
def test_the_best_checkpoint_is_reported(loop_config, tmp_path):
    loop_config.eval.every, loop_config.checkpoint.every = "2 steps", "20 steps"
    loop_config.eval.report, loop_config.optim.learning_rate = "best", 0.3
    summary = train(loop_config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["eval/top1"] for line in lines if "eval/top1" in line}
    assert summary["eval"]["top1"] == max(found.values()) == found[summary["step"]]
