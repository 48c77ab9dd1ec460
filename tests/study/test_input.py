import json

import numpy as np
import pytest
from PIL import Image
from test_launch import TINY

import launch
from imagenet_jax.study.input import benchmark_input

STAGES = ["read", "decode", "crop+resize+policy", "batch", "transfer", "tf.data and Python"]


@pytest.fixture
def folder_config(tiny_config, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(20):
        file = tmp_path / f"images/train/class{k % 2}/{k}.{('jpg', 'png')[k % 2]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(file)
    tiny_config.data.name = f"folder:{tmp_path}/images"
    return tiny_config


def test_the_stages_add_up_to_the_time_of_an_image(folder_config):
    result = benchmark_input(folder_config, seconds=0.5)
    assert list(result["stages"]) == STAGES
    assert sum(stage["share"] for stage in result["stages"].values()) == pytest.approx(1)
    assert all(result["stages"][name]["seconds_per_image"] > 0 for name in STAGES[:5])
    spent = sum(stage["seconds_per_image"] for stage in result["stages"].values())
    assert spent >= 0.999 / result["images_per_core_second"]
    assert len(result["repeats"]) == 5
    assert result["decode_limit_images_per_core_second"] > 0
    assert result["images_per_second"] <= 1.1 * result["cores"] * result["images_per_core_second"]


def test_data_that_are_not_encoded_have_no_decoding_limit(tiny_config):
    result = benchmark_input(tiny_config, seconds=0.2)
    assert list(result["stages"]) == ["read", "transfer", "tf.data and Python"]
    assert result["decode_limit_images_per_core_second"] is None


def test_the_verb_prints_a_table_and_writes_picture_and_json(folder_config, tmp_path, capsys):
    fields = [f"--config.data.name={folder_config.data.name}", "--seconds=0.2"]
    arguments = ["benchmark", "--what=input", *TINY, *fields, f"--workdir={tmp_path}/run"]
    assert launch.main([*arguments, f"--json={tmp_path}/result.json"]) == 0
    output = capsys.readouterr().out
    assert "images per core-second" in output and "crop+resize+policy" in output
    result = json.loads((tmp_path / "result.json").read_text())
    for key in ("images_per_second", "images_per_core_second", "stages"):
        assert key in result
    assert Image.open(tmp_path / "run/input.png").format == "PNG"
