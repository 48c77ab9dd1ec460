"""Facts of the programs that XLA's TPU compiler makes of detectors and segmenters. Not timings."""

import importlib.util
import re

import pytest
from test_programs import own_flags, study  # noqa: F401 - a fixture

# They take minutes each; tests/tasks/test_instances.py looks at what is compiled before XLA does.
pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.xdist_group("large")]
SMALL = (
    "--batch_per_device=2",
    "--config.data.image_size=256",
    "--config.model.name=resnet18",
    "--config.model.roi_samples=64",
    "--config.model.proposals=100",
    "--config.optim.rules=",
)
AT_640 = ("--batch_per_device=8", "--config.data.image_size=640")
AT_512 = (
    "--batch_per_device=8",
    "--config.data.image_size=512",
    "--config.data.train_size=512",
    "--config.model.bn_group_size=8",
)
# Of each: config, hardware, what else, all-reduces, MB of them, predicted images/s of a chip at
# least, by libtpu 0.0.52 and jax 0.10.2. What was found is 1.1 times as much, or more.
CASES = {
    "small": ("detect_coco:mask_rcnn_resnet50", "v5e:2x2", SMALL, 4, 125.4, 0),
    "retinanet": ("detect_coco:retinanet_resnet50", "v5e:4x4", AT_640, 4, 134.5, 113),
    "faster_rcnn": ("detect_coco:faster_rcnn_resnet50", "v5e:4x4", AT_640, 4, 166.1, 63),
    "mask_rcnn": ("detect_coco:mask_rcnn_resnet50", "v5e:4x4", AT_640, 4, 176.7, 37),
    "deeplabv3": ("segment_voc", "v5e:4x4", AT_512, 4, 168.3, 75),
}


@pytest.mark.parametrize("name", CASES)
def test_tpu_programs_of_detectors_and_segmenters(name, tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    config, topology, more, all_reduces, megabytes, images = CASES[name]
    more += ("--config.data.name=fake", "--config.data.fake_classes=80")
    facts, hlo = study(tmp_path, topology, *more, config=config)
    assert facts["fits"]
    assert "callback" not in hlo and "outfeed" not in hlo
    assert not re.search(r"<=\d+\]", hlo)  # XLA's dynamic shapes
    # Gradients of what is trained and the metrics, once; no activation crosses devices.
    assert set(facts["collectives"]) == {"all-reduce"}
    assert facts["all_reduces"] <= all_reduces
    assert facts["collectives"]["all-reduce"]["bytes"] <= 1.01e6 * megabytes
    assert facts["predicted_images_per_second_per_chip"] > images
