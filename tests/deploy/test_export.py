"""Files that say what the model says, and run with jax and numpy alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.deploy import stablehlo
from imagenet_jax.deploy.comparison import check_difference, compared
from imagenet_jax.errors import ExportError
from imagenet_jax.models import create_detector, create_model, create_segmenter
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.weights.files import read_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_stablehlo.py"
# What an environment with jax and numpy alone does not have.
ALONE = """
import runpy, sys
for name in ("imagenet_jax", "flax", "tensorflow", "ml_collections", "PIL", "clu", "orbax"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def exported(finished_run, tmp_path, one_block):
    assert main(["export", f"--workdir={finished_run}", f"--out={tmp_path}/out"]) == 0
    return tmp_path / "out"


def test_a_file_runs_with_jax_and_numpy_alone(exported, finished_run, tmp_path):
    """Of any number of images; it tells the classes that the run tells."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    command = [sys.executable, "-c", ALONE, EXAMPLE, exported, tmp_path / "images.npy"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    predictor = Predictor.from_run(finished_run)
    best = predictor.outputs_of(pixels).argmax(1)
    expected = [f"{k} {predictor.class_names[label]}" for k, label in enumerate(best)]
    assert done.stdout.splitlines() == expected


def test_what_stands_beside_the_files(exported, finished_run):
    facts = json.loads((exported / "export.json").read_text())
    assert facts["input"]["shape"] == [None, 8, 8, 3] and facts["input"]["dtype"] == "uint8"
    assert facts["outputs"] == {"logits": {"shape": [None, 10], "dtype": "float32"}}
    assert facts["compared_on"] == "30 images: fake, validation" and len(facts["class_names"]) == 10
    of_file = facts["formats"]["stablehlo"]
    assert of_file["platforms"] == ["cpu", "cuda", "tpu"] and of_file["changed_decisions"] == 0
    assert of_file["largest_difference"] < 1e-5 and set(of_file["latency_ms"]) == {"1", "32"}
    assert of_file["bytes"] == (exported / of_file["file"]).stat().st_size
    weights = read_weights(exported / "weights.safetensors")
    assert weights.class_names == Predictor.from_run(finished_run).class_names


def test_normalised_images_and_photos_that_are_given(finished_run, tmp_path, one_block, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    argv = ["export", f"--workdir={finished_run}", f"--out={tmp_path}/out", "--input=float32"]
    argv += ["--format=stablehlo", "--platforms=cpu", f"{tmp_path}/photo.png"]
    assert main([*argv, "--config.data.eval_crop=resize"]) == 0
    assert "compared on 1 images: 1 photos that were given" in capsys.readouterr().out
    run = stablehlo.read_stablehlo((tmp_path / "out" / stablehlo.FILE).read_bytes())
    predictor = Predictor.from_run(finished_run)
    inputs = predictor.trained.task.image_inputs(photo[None])
    expected = predictor.outputs_of(photo[None])
    np.testing.assert_allclose(run(np.asarray(inputs))["logits"], expected, rtol=1e-5, atol=1e-6)


def test_an_export_that_says_something_else_is_not_published(
    finished_run, tmp_path, one_block, monkeypatch, capsys
):
    right = stablehlo.to_stablehlo

    def wrong(trained, *how):
        variables = jax.tree.map(lambda leaf: leaf * 1.001, trained.variables)
        object.__setattr__(trained, "variables", variables)
        return right(trained, *how)

    monkeypatch.setattr(stablehlo, "to_stablehlo", wrong)
    out = tmp_path / "folder" / "out"
    assert main(["export", f"--workdir={finished_run}", f"--out={out}"]) == 1
    assert "does not say what the model says" in capsys.readouterr().err
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=onnx"], "--format=onnx; expected one or more of stablehlo, safetensors"),
        (["--platforms=gpu"], "--platforms=gpu; expected one or more of cpu, cuda, rocm, tpu"),
        (["--platforms=tpu"], "this machine has cpu"),
        (["--out={here}"], "is there and is no export"),
        (["{here}/missing.jpg"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_said(finished_run, tmp_path, one_block, flags, message, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").write_text("")
    flags = [flag.format(here=tmp_path / "here") for flag in flags]
    argv = ["export", f"--workdir={finished_run}", f"--out={tmp_path}/out", *flags]
    assert main(argv) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_older_export_is_replaced(exported, finished_run):
    assert (
        main(["export", f"--workdir={finished_run}", f"--out={exported}", "--format=safetensors"])
        == 0
    )
    assert {path.name for path in exported.iterdir()} == {"export.json", "weights.safetensors"}
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


def test_decisions_are_compared():
    """Of logits the best class, or which are there; of boxes their classes."""
    logits = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    other = logits + np.array([[0, 0], [0, 1.00001]], np.float32)
    assert compared({"logits": logits}, {"logits": other}).changed == 0
    assert compared({"logits": logits}, {"logits": other}, several_labels=True).changed == 1
    found = {"boxes": np.ones((2, 3, 4), np.float32), "classes": np.zeros((2, 3), np.int32)}
    moved = {**found, "classes": np.array([[0, 0, 0], [0, 1, 0]], np.int32)}
    assert compared(found, moved) == (2, 0.0, 1)
    broken = {"logits": np.full((2, 2), np.nan, np.float32)}
    with pytest.raises(ExportError, match="largest difference is inf"):
        check_difference(compared({"logits": logits}, broken), "a file")


def check_any_batch(model, size):
    shapes = variable_shapes(model, size)
    (count,) = jax_export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32)
    run = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    found = jax_export.export(run, platforms=["cpu", "cuda", "tpu"])(shapes, images)
    assert all(leaf.shape[0] == count for leaf in found.out_avals)


SMALLEST = sorted(
    {
        re.match("[a-z]+", name)[0]: name for name in sorted(FACTS, key=lambda n: -FACTS[n].params)
    }.values()
)
FAST = ("resnet8", "vit_ti16", "squeezenet1_1")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in SMALLEST]
)
def test_a_model_of_each_family_takes_any_batch(name):
    check_any_batch(create_model(name, num_classes=10), FACTS[name].image_size)


@pytest.mark.parametrize(
    ("backbone", "head", "size"),
    [
        ("resnet18", "unet", 64),
        ("resnet18", "fcos", 64),
        *(
            pytest.param(backbone, head, size, marks=pytest.mark.slow)
            for backbone, head, size in (
                ("resnet18", "deeplabv3", 64),
                ("mobilenet_v3_small", "lraspp", 64),
                ("resnet18", "mask_rcnn", 128),
                ("cspdarknet_nano", "yolox", 64),
                ("mobilenet_v3_small", "ssdlite", 320),
                ("resnet18", "detr", 64),
            )
        ),
    ],
)
def test_dense_models_take_any_batch(backbone, head, size):
    dense = head in ("unet", "deeplabv3", "lraspp", "fcn")
    make = create_segmenter if dense else create_detector
    check_any_batch(make(backbone, head, num_classes=3), size)
