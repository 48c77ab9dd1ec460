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
from imagenet_jax.config import base_config
from imagenet_jax.deploy import stablehlo
from imagenet_jax.deploy.comparison import (
    Difference,
    check_difference,
    check_rounding,
    compared,
)
from imagenet_jax.deploy.export import export
from imagenet_jax.deploy.folder import STABLEHLO
from imagenet_jax.deploy.program import program_of
from imagenet_jax.errors import ExportError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.detection import METHODS
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks import make_task
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.files import read_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_stablehlo.py"
# What an environment with these alone does not have.
ALONE = """
import importlib.metadata, runpy, sys
own = {"jax", "jaxlib", "numpy", "flatbuffers", "ml_dtypes", "opt_einsum", "scipy"}
others = {name.partition("/")[0] for name in importlib.metadata.packages_distributions()} - own
for name in {*others, "imagenet_jax"}:
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
    assert facts["preprocessing"]["resize_method"] == "bilinear"
    assert facts["compared_on"] == "30 images: fake, validation" and len(facts["class_names"]) == 10
    of_file = facts["formats"]["stablehlo"]
    assert of_file["platforms"] == ["cpu", "cuda", "tpu"] and of_file["changed_decisions"] == 0
    assert of_file["largest_difference"] < 1e-5 and set(of_file["latency_ms"]) == {"1", "2"}
    assert of_file["bytes"] == (exported / of_file["file"]).stat().st_size
    weights = read_weights(exported / "weights.safetensors")
    assert weights.class_names == Predictor.from_run(finished_run).class_names


def test_normalised_images_and_photos_that_are_given(finished_run, tmp_path, one_block, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    argv = ["export", f"--workdir={finished_run}", f"--out={tmp_path}/out", "--input=float32"]
    argv += ["--format=stablehlo", "--platforms=cpu", f"{tmp_path}/photo.png"]
    assert main([*argv, "--config.data.eval_crop=resize"]) == 0
    assert "compared on 1 images: the first photos that were given" in capsys.readouterr().out
    run = stablehlo.read_stablehlo((tmp_path / "out" / STABLEHLO).read_bytes())
    predictor = Predictor.from_run(finished_run)
    inputs = predictor.trained.task.image_inputs(photo[None])
    expected = predictor.outputs_of(photo[None])
    np.testing.assert_allclose(run(np.asarray(inputs))["logits"], expected, rtol=1e-5, atol=1e-6)


def test_an_export_that_says_something_else_is_not_published(
    finished_run, tmp_path, one_block, monkeypatch, capsys
):
    right = stablehlo.to_stablehlo

    def wrong(trained, *how):
        variables = jax.tree.map(lambda leaf: leaf * 1.01, trained.variables)
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
        (["--format=caffe"], "--format=caffe; expected one or more of stablehlo, safetensors"),
        (["--platforms=gpu"], "--platforms=gpu; expected one or more of cpu, cuda, rocm, tpu"),
        (["--platforms=tpu"], "this machine has cpu"),
        (["--out={here}"], "thesis.tex, and is no export"),
        (["--out=/proc/none/out", "--format=safetensors"], "/proc/none/out cannot be written"),
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


def test_an_older_export_is_replaced_and_nothing_else(exported, finished_run, tmp_path, capsys):
    """Also through a link, which stays one."""
    (tmp_path / "link").symlink_to(exported)
    argv = ["export", f"--workdir={finished_run}", "--format=safetensors"]
    assert main([*argv, f"--out={tmp_path}/link"]) == 0
    assert {path.name for path in exported.iterdir()} == {"export.json", "weights.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {"link", "out"}
    assert (tmp_path / "link").is_symlink()
    (exported / "images.npy").write_text("mine")
    assert main([*argv, f"--out={exported}"]) == 1
    assert "is there, with images.npy, and is no export" in capsys.readouterr().err
    assert (exported / "images.npy").read_text() == "mine"


def test_photos_stand_for_data_that_are_gone(trained, tmp_path, one_block, capsys):
    """Whatever the run's crop is."""
    argv = ["export", f"--workdir={trained()}", f"--out={tmp_path}/out", "--format=stablehlo"]
    argv += ["--config.data.name=folder:/nowhere", "--config.data.eval_crop=none"]
    assert main([*argv, "--platforms=cpu"]) == 0
    told = capsys.readouterr()
    assert "2 images: the photos that come with scikit-learn" in told.out
    assert "the run's data are not here" in told.err + told.out


def task_config(task, name, head="", **fields):
    config = base_config()
    config.task, config.model.name, config.model.head = task, name, head
    config.data.update(name="fake", fake_classes=3, image_size=64, eval_crop="letterbox")
    config.loss.update(label_smoothing=0.0, auxiliary=0.0)
    config.update_from_flattened_dict(fields)
    return config


def random_model(config):
    """With weights that are nowhere zero."""
    task = make_task(config)
    model = task.model()
    shapes = variable_shapes(model, config.data.image_size)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (
            np.abs(random.normal(0.5 * (leaf.ndim == 1), 0.1, leaf.shape)).astype(np.float32)
            if leaf.ndim == 1
            else random.normal(0, leaf.size**-0.25, leaf.shape).astype(np.float32)
        ),
        shapes,
    )
    return TrainedModel("random", model, variables, task)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "head"), [("classification", ""), ("segmentation", "unet")])
def test_a_model_in_bfloat16_is_exported(tmp_path, task, head):
    """Where weights are constants XLA fuses and rounds otherwise."""
    fields = {"model.width": 16, "model.dtype": "bfloat16", "data.fake_eval_examples": 8}
    made = random_model(task_config(task, "resnet18", head, **fields))
    how = {"formats": ("stablehlo",), "platforms": ("cpu",)}
    found = export(made, tmp_path / "out", **how)["formats"]["stablehlo"]
    assert found["largest_difference"] < 0.05 and found["changed_decisions"] == 0


def test_decisions_are_compared():
    """Of logits the best class, or which are there; of boxes whether the other has their like."""
    logits = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    other = logits + np.array([[0, 0], [0, 1.1]], np.float32)
    assert compared({"logits": logits}, {"logits": other}).changed == 0
    assert compared({"logits": logits}, {"logits": other}, several_labels=True).changed == 1
    assert compared({"logits": logits}, {"logits": logits[:, ::-1]}).changed == 2
    near = np.array([[1.0, 1.0001], [3.0, -1.0]], np.float32)
    assert compared({"logits": near}, {"logits": near[:, ::-1]}).changed == 1
    boxes = np.array([[[0, 0, 9, 9], [5, 5, 30, 30], [0, 0, 0, 0]]] * 2, np.float32)
    scores, classes = np.array([[0.9, 0.8999, -1]] * 2, np.float32), np.array([[1, 2, 0]] * 2)
    found = {"boxes": boxes, "scores": scores, "classes": classes}
    turned = {name: array[:, [1, 0, 2]] for name, array in found.items()}
    assert compared(found, {**turned, "scores": scores}).changed == 0
    classes = np.array([[1, 2, 0], [1, 1, 0]])
    assert compared(found, {**found, "classes": classes}) == (2, 0.0, 1)
    maps = np.zeros((1, 100, 100), np.uint8)
    for count, changed in ((9, 0), (11, 1)):
        turned = maps.copy()
        turned[0, 0, :count] = 1
        assert compared({"segmentation": maps}, {"segmentation": turned}).changed == changed
        half = dict.fromkeys(("segmentation",), maps), {"segmentation": turned}
        assert compared(*half, dtype="bfloat16").changed == 0
    turned[0, 0, :51] = 1
    assert compared({"segmentation": maps}, {"segmentation": turned}, dtype="bfloat16").changed
    angles = np.array([[0.0, 0.0], [0.44, 0.46]])  # their cosine distances: 0.095, 0.104
    ours, theirs = ({"embedding": np.stack([np.cos(a), np.sin(a)], 1)} for a in angles)
    assert compared(ours, theirs).changed == 1
    check_rounding(Difference(20, 0.1, 2), "a file")
    for found in (Difference(20, 0.1, 3), Difference(20, float("nan"), 0)):
        with pytest.raises(ExportError, match="levels that are rounded otherwise"):
            check_rounding(found, "a file")
    broken = {"logits": np.full((2, 2), np.nan, np.float32)}
    with pytest.raises(ExportError, match="largest difference is inf"):
        check_difference(compared({"logits": logits}, broken), "a file")


def check_any_batch(run, shapes, size):
    (count,) = jax_export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)
    found = jax_export.export(jax.jit(run), platforms=["cpu", "cuda", "tpu"])(shapes, images)
    assert all(leaf.shape[0] == count for leaf in found.out_avals)


SMALLEST = sorted(
    {
        re.match("[a-z]+", name)[0]: name for name in sorted(FACTS, key=lambda n: -FACTS[n].params)
    }.values()
)
FAST = ("resnet8", "vit_ti16", "squeezenet1_1")


OTHERS = [name for name in FACTS if name not in SMALLEST]


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in SMALLEST),
        *(pytest.param(n, marks=(pytest.mark.slow, pytest.mark.exhaustive)) for n in OTHERS),
    ],
)
def test_every_model_takes_any_batch(name):
    model, size = create_model(name, num_classes=10), FACTS[name].image_size

    def run(variables, images):
        return model.apply(variables, images.astype(jnp.float32), train=False)

    check_any_batch(run, variable_shapes(model, size), size)


DENSE = {
    **dict.fromkeys(("unet", "fcn", "deeplabv3"), ("segmentation", "resnet18")),
    "lraspp": ("segmentation", "mobilenet_v3_small"),
    **dict.fromkeys(METHODS, ("detection", "resnet18")),
    **dict.fromkeys(("mask_rcnn", "mask_rcnn_v2"), ("instances", "resnet18")),
    **dict.fromkeys(("ssdlite", "faster_rcnn_mobile"), ("detection", "mobilenet_v3_small")),
    "yolox": ("detection", "cspdarknet_nano"),
}


@pytest.mark.parametrize(
    "head",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "unet")) for n in DENSE],
)
def test_what_is_made_of_maps_takes_any_batch(head):
    """Suppression, views and masks, too."""
    size = 320 if head.startswith("ssd") else 128
    config = task_config(DENSE[head][0], DENSE[head][1], head, **{"data.image_size": size})
    if DENSE[head][0] != "instances" and head != "detr":
        config.eval.tta = "mirror"
    task = make_task(config)
    made = TrainedModel("", task.model(), {}, task)
    check_any_batch(program_of(made), variable_shapes(made.model, size), size)


@pytest.mark.slow
def test_several_tasks_have_the_classes_of_each(tmp_path):
    config = task_config("multi_task", "resnet18", **{"model.width": 16})
    config.multi_task.tasks = ("classification", "segmentation:unet")
    config.data.fake_eval_examples = 3
    found = export(random_model(config), tmp_path / "out", formats=("stablehlo",))
    assert set(found["class_names"]) == {"classification", "segmentation"}
    assert set(found["outputs"]) == {"classification", "segmentation"}
