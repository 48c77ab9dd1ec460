"""Rates by layer: into which groups blocks go."""

import pytest

from imagenet_jax.models import create_model
from imagenet_jax.training.tuning import layer_depths


@pytest.mark.slow
def test_depths_of_groups_and_single_blocks_are_those_of_convnext():
    """Of facebookresearch/ConvNeXt-V2 optim_factory.py: 12 groups, or each block by itself."""
    sizes, number = (3, 3, 27, 3), 0
    model = create_model("convnext_base", num_classes=3)
    grouped, single = (layer_depths(model, 32, groups) for groups in (12, 0))
    for stage, size in enumerate(sizes):
        for block in range(size):
            number += 1
            group = {0: 1, 1: 2, 2: 3 + block // 3, 3: 12}[stage]
            names = [f"stages.{stage}.blocks.{block}"]
            names += [f"stages.{stage}.downsample.{part}" for part in (0, 1) if stage and not block]
            for name in names:
                assert (grouped[name], single[name]) == (group, number)
    for name, depths in {"stem.0": (0, 0), "head.norm": (13, 37), "head.fc": (13, 37)}.items():
        assert (grouped[name], single[name]) == depths
