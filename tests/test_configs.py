"""Every config in configs/, resolved and compared with its golden copy.

After a change that is meant: python tests/test_configs.py
"""

from pathlib import Path

import pytest

from imagenet_jax.config import load_config, to_json, validate
from imagenet_jax.models import MODELS
from imagenet_jax.training.checks import validate_batch

GOLDEN = Path(__file__).parent / "golden"
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_resolved_config_equals_its_golden_copy(path):
    config = load_config(path)
    validate(config)
    validate_batch(config, num_devices=1)
    assert config.model.name in MODELS
    assert to_json(config) == (GOLDEN / f"{path.stem}.json").read_text()


def test_no_golden_copy_without_its_config():
    assert {path.stem for path in GOLDEN.glob("*.json")} == {path.stem for path in CONFIGS}


if __name__ == "__main__":
    for config_path in CONFIGS:
        (GOLDEN / f"{config_path.stem}.json").write_text(to_json(load_config(config_path)))
