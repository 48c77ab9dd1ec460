"""A run of segmentation: its report, and what it makes of photos."""

import csv
import itertools
import json

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax import Predictor
from imagenet_jax.data.sources.scenes import make_scene
from imagenet_jax.reports.palette import map_of_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The working directory of a short run on photos with maps, and where these are."""
    folder = tmp_path_factory.mktemp("segmentation")
    for number, (split, kind) in enumerate(itertools.product(("train", "val"), range(8))):
        scene = make_scene("train", number)
        for name, pixels in (("images", scene.image), ("masks", np.minimum(scene.instances, 1))):
            path = folder / "data" / split / name / f"{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[: 128 - 8 * kind]).save(path)
    (folder / "data/classes.txt").write_text("background\nink\n")
    flags = [
        *("--config=segment_scenes", f"--config.data.name=masks:{folder}/data"),
        *("--config.data.eval_split=validation", "--config.data.train_crop=scale_jitter"),
        *("--config.data.eval_crop=letterbox", "--config.data.cache=False"),
        *(
            "--config.model.bn_group_size=0",
            "--config.model.width=4",
            "--config.data.image_size=64",
        ),
        *("--config.duration=30 steps", "--config.schedule.warmup=2 steps"),
    ]
    assert launch.main([f"--workdir={folder}/run", *flags]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("segmentation_run")
def test_a_run_leaves_a_table_and_pictures(run, capsys):
    report = run / "run/evaluation"
    rows = list(csv.DictReader((report / "per_class.csv").open()))
    assert [row["class"] for row in rows] == ["background", "ink"]
    assert Image.open(report / "most_wrong.png").size[0] > 300
    summary = json.loads((run / "run/summary.json").read_text())
    assert summary["task"] == "segmentation" and 0 < summary["eval"]["miou"] <= 1
    ious = [float(row["iou"]) for row in rows]
    assert summary["eval"]["miou"] == pytest.approx(np.mean(ious), abs=1e-5)


@pytest.mark.slow
@pytest.mark.xdist_group("segmentation_run")
def test_photos_get_maps_of_their_own_size(run, tmp_path, capsys):
    photos = sorted((run / "data/val/images").glob("*.png"))[:3]
    argv = ["predict", f"--workdir={run}/run", *map(str, photos), f"--maps={tmp_path}/maps"]
    assert launch.main([*argv, f"--json={tmp_path}/found.json"]) == 0
    assert "background" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["predictions"]
    for photo, answer in zip(photos, found, strict=True):
        levels = np.array(Image.open(answer["map"]))
        assert levels.shape == np.array(Image.open(photo)).shape[:2]
        assert np.array_equal(levels, map_of_text(answer["segmentation"]))
        assert sum(one["share"] for one in answer["classes"]) == pytest.approx(1)
    assert Image.open(run / "run/predictions.png").size[0] > 300
    before = photos[0].read_bytes()
    assert launch.main([*argv[:-1], f"--maps={photos[0].parent}"]) == 1
    assert "would take the place of a photo" in capsys.readouterr().err
    assert photos[0].read_bytes() == before
    answer = Predictor.from_run(run / "run")(photos[0])
    assert answer["segmentation"] == found[0]["segmentation"]


@pytest.mark.slow
@pytest.mark.xdist_group("segmentation_run")
def test_classifiers_have_no_maps(finished_run, run, tmp_path, capsys, one_block):
    photo = next((run / "data/val/images").glob("*.png"))
    argv = ["predict", f"--workdir={finished_run}", str(photo), "--config.data.eval_crop=resize"]
    assert launch.main([*argv, f"--maps={tmp_path}"]) == 1
    assert "config.task = 'classification' tells no classes of pixels" in capsys.readouterr().err
