import itertools

import pytest

from imagenet_jax.errors import CheckpointError
from imagenet_jax.evaluate import evaluate
from imagenet_jax.train import train


def test_every_batch_size_counts_the_same(tiny_config, tmp_path):
    trained = train(tiny_config, tmp_path)["eval"]
    for batch_size in (1, 7, 30, 64):
        tiny_config.eval.batch_size = batch_size
        found = evaluate(tiny_config, tmp_path, which="latest")["eval"]
        for name in ("num_examples", "correct_top1", "correct_top5"):
            assert found[name] == trained[name]
        assert found["loss"] == pytest.approx(trained["loss"], rel=1e-5)


def test_partitioners_count_the_same(tiny_config, tmp_path):
    trained = train(tiny_config, tmp_path)["eval"]
    for partitioner, batch_size in itertools.product(("shard_map", "pmap"), (7, 16)):
        tiny_config.partitioner, tiny_config.eval.batch_size = partitioner, batch_size
        found = evaluate(tiny_config, tmp_path, which="latest")["eval"]
        assert found["correct_top1"] == trained["correct_top1"]


def test_evaluation_needs_neither_training_data_nor_its_batch_size(tiny_config, tmp_path):
    trained = train(tiny_config, tmp_path)["eval"]
    tiny_config.batch_size, tiny_config.data.fake_train_examples = 3, 1
    found = evaluate(tiny_config, tmp_path, which="latest")["eval"]
    assert found["correct_top1"] == trained["correct_top1"]


def test_other_classes_than_those_trained_on_are_refused(tiny_config, tmp_path):
    train(tiny_config, tmp_path)
    tiny_config.data.fake_classes = 11
    with pytest.raises(CheckpointError, match="trained on other classes"):
        evaluate(tiny_config, tmp_path, which="latest")


def test_workdir_without_a_run_is_refused(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoints in"):
        evaluate(tiny_config, tmp_path, which="latest")


def test_one_step_can_be_asked_for(tiny_config, tmp_path):
    train(tiny_config, tmp_path)
    assert evaluate(tiny_config, tmp_path, which="15")["step"] == 15
    with pytest.raises(CheckpointError, match="expected latest, best or one of the steps"):
        evaluate(tiny_config, tmp_path, which="first")
