"""`launch.py explain`: of every task, of a class, a segment or a box."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.explanation import Explainer, explain_photos
from imagenet_jax.inference.explanation.methods import METHODS
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks import make_task
from imagenet_jax.training.trained import TrainedModel

EVERY = [name for name in METHODS if name != "attention_rollout"]


@pytest.fixture
def photos(tmp_path):
    """Three photos of noise, and a file that is none."""
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (10, 16, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    (tmp_path / "d.png").write_text("no photo")
    return tmp_path


def test_facts_arrays_and_a_picture(photos, finished_run, one_block, capsys):
    argv = ["explain", *(f"{photos}/{name}.png" for name in "abcd"), f"--workdir={finished_run}"]
    argv += [f"--method={','.join(EVERY)}", "--steps=3", "--config.data.eval_crop=center_crop"]
    argv += [f"--json={photos}/e.json", f"--arrays={photos}/e.npz", f"--picture={photos}/e.png"]
    assert main(argv) == 1  # of a photo that cannot be read
    told = capsys.readouterr().out
    result = json.loads((photos / "e.json").read_text())
    arrays = np.load(photos / "e.npz")
    assert result["methods"] == EVERY and arrays["path"].tolist() == [
        f"{photos}/{name}.png" for name in "abc"
    ]
    assert [error["path"] for error in result["errors"]] == [f"{photos}/d.png"]
    predictor = Predictor.from_run(finished_run, fields={"data.eval_crop": "center_crop"})
    for number, one in enumerate(result["explanations"]):
        answer = predictor(one["path"])["classes"][0]
        assert one["target"]["label"] == arrays["label"][number] == answer["label"]
        assert one["target"]["probability"] == pytest.approx(answer["probability"], rel=1e-4)
        logits = predictor.outputs(one["path"])[0]
        assert one["score"] == pytest.approx(logits.max(), rel=1e-4)
        # 7/8 of the short side, rounded, in the middle.
        assert one["size"] == [10, 16] and one["seen"] == [3.0, 0.0, 12.0, 9.0]
        for name, facts in one["methods"].items():
            array = arrays[name][number]
            row, column = np.unravel_index(array.argmax(), array.shape)
            expected = [3 + 9 / 8 * (column + 0.5), 9 / 8 * (row + 0.5)]
            assert facts["maximum"] == pytest.approx(expected, abs=0.06)
            mass = np.sort(np.maximum(array, 0).ravel())[::-1]
            count = round(64 * facts["half_area"])
            assert mass[:count].sum() >= mass.sum() / 2 > mass[: count - 1].sum()
        gradients = one["methods"]["integrated_gradients"]
        assert gradients["sum"] == pytest.approx(
            arrays["integrated_gradients"][number].sum(), rel=1e-4
        )
        assert gradients["gap"] == pytest.approx(gradients["sum"] - gradients["difference"])
    assert "half of it in" in told and "drawn in" in told
    with Image.open(photos / "e.png") as picture:
        assert picture.width > 1000 and picture.height > 500


def task_config(task, name, head="", **fields):
    config = base_config()
    config.task, config.model.name, config.model.head = task, name, head
    config.model.dtype = "float32"
    config.data.update(name="fake", fake_classes=3, image_size=64, eval_crop="letterbox")
    config.loss.update(label_smoothing=0.0, auxiliary=0.0)
    config.update_from_flattened_dict(fields)
    return config


def random_model(config, seed=0, model=None):
    """With weights that are nowhere zero."""
    task, random = make_task(config), np.random.default_rng(seed)
    model = model or task.model()

    def draw(leaf):
        if leaf.ndim == 1:
            return np.abs(random.normal(0.5, 0.1, leaf.shape)).astype(np.float32)
        return random.normal(0, leaf.size**-0.25, leaf.shape).astype(np.float32)

    variables = jax.tree.map(draw, variable_shapes(model, config.data.image_size))
    return TrainedModel("random", model, variables, task)


def pictures(size, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def check_maps(explained, methods, size):
    for one in explained:
        assert set(one.maps) == set(one.facts) == set(methods)
        for array in one.maps.values():
            assert array.shape == (size, size) and np.isfinite(array).all()


def test_a_class_of_several_labels_is_found_by_its_name_its_title_or_its_number():
    made = random_model(task_config("multilabel", "lenet", **{"data.image_size": 32}))
    object.__setattr__(made.task, "class_names", ("n02504458", "7", "2"))
    pixels, logits = pictures(32), Predictor(made).outputs_of(pictures(32))
    explainer = Explainer(made)
    for name, label in {"African elephant": 0, "n02504458": 0, "7": 1, "2": 2, "1": 1}.items():
        assert explainer.what(of_class=name)[1].label == label
    found = explainer.explain(pixels, ["occlusion"], of_class=1)
    np.testing.assert_allclose([one.score for one in found], logits[:, 1], rtol=1e-5)
    assert found[0].target.facts["probability"] == pytest.approx(1 / (1 + np.exp(-logits[0, 1])))
    for name in ("3", "elefant"):
        with pytest.raises(ConfigError, match=f"no class '{name}'; expected a name or 0 to 2"):
            explainer.explain(pixels, of_class=name)


@pytest.mark.slow
def test_a_segment_has_the_mean_of_its_logits():
    """Also one that the network does not see: that of all pixels."""
    made = random_model(task_config("segmentation", "resnet8", "unet", **{"model.width": 8}))
    never = np.float32([0, 0, 1000])  # off the logits of class 2
    variables = jax.tree.map(lambda x: x - never if x.shape == (3,) else x, made.variables)
    made, pixels = dataclasses.replace(made, variables=variables), pictures(64)
    logits = Predictor(made).outputs_of(pixels)
    said = logits.argmax(-1)
    explainer, methods = Explainer(made), ["grad_cam", "occlusion"]
    found = explainer.explain(pixels, methods)
    check_maps(found, methods, 64)
    for one, levels, of_image in zip(found, said, logits, strict=True):
        label = one.target.facts["label"]
        assert label == np.bincount(levels.ravel()).argmax()
        assert one.score == pytest.approx(of_image[levels == label][:, label].mean(), rel=1e-4)
        assert (one.target.inside == (levels == label)).all()
        assert one.facts["grad_cam"]["sides"] == [16, 16]  # of the stride 4
    (other,) = explainer.explain(pixels, ["occlusion"], of_class=2)[:1]
    assert other.target.facts["share"] == 0 and other.target.inside is None
    assert other.score == pytest.approx(logits[0, ..., 2].mean(), rel=1e-4)


DETECTORS = {
    "fcos": {"model.name": "resnet8", "model.fpn_width": 32, "model.fpn_strides": (2, 4)},
    "yolox": {"model.name": "cspdarknet_nano", "model.width": 0},
    "ssd": {"data.image_size": 320},
    **{
        name: {"data.image_size": 128} for name in ("mask_rcnn", "retinanet", "faster_rcnn", "detr")
    },
}


# Others stand for those: SSD for anchors, Mask R-CNN for two stages.
EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
MARKS = {"fcos": (), "retinanet": EXHAUSTIVE, "faster_rcnn": EXHAUSTIVE}


@pytest.mark.parametrize(
    "head", [pytest.param(n, marks=MARKS.get(n, pytest.mark.slow)) for n in DETECTORS]
)
def test_a_box_has_the_score_that_is_told(head, tmp_path):
    fields = {"eval.score_threshold": 0.0, "model.width": 16, "eval.candidates": 50}
    fields |= DETECTORS[head]
    methods = ["grad_cam", "integrated_gradients"][: 1 if head == "fcos" else 2]
    task = "instances" if head == "mask_rcnn" else "detection"
    config = task_config(task, "resnet18", head, **fields)
    made, size = random_model(config), config.data.image_size
    Image.fromarray(pictures(size, 1)[0, : size // 2]).save(tmp_path / "a.png")
    told = Predictor(made)(tmp_path / "a.png")["objects"]
    explainer, photos = Explainer(made, steps=1), [str(tmp_path / "a.png")]
    # Not the first one, and a thick one: a thin box is another when it moves by a rounding.
    thinnest = [min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (one["box"] for one in told)]
    number = 1 + int(np.argmax(thinnest[1:]))
    result, explained = explain_photos(explainer, photos, methods, box=number + 1)
    check_maps([one.explanation for one in explained], methods, size)
    (one,) = result["explanations"]
    assert one["target"]["label"] == told[number]["label"] and one["seen"] == [0, 0, size, size]
    assert one["target"]["box"] == pytest.approx(told[number]["box"], abs=0.02)
    assert one["score"] == pytest.approx(told[number]["score"], rel=1e-2)
    left, top, right, bottom = np.ceil(explained[0].explanation.target.arrays["box"] - 0.5).astype(
        int
    )
    mass = np.maximum(explained[0].explanation.maps["grad_cam"], 0)
    inside = mass[top:bottom, left:right].sum() / max(mass.sum(), 1e-9)
    assert (one["methods"]["grad_cam"]["inside"] or 0) == pytest.approx(inside, abs=1e-3)
    with pytest.raises(DataError, match="and box 9999 is asked for"):
        explain_photos(explainer, photos, box=9999)


@pytest.mark.slow
def test_one_of_several_tasks_is_explained():
    config = task_config("multi_task", "resnet8", **{"model.width": 8})
    config.multi_task.tasks = ("classification", "segmentation:unet")
    made, pixels = random_model(config), pictures(64, 1)
    outputs = Predictor(made).outputs_of(pixels)
    (first,) = Explainer(made).explain(pixels)
    assert first.score == pytest.approx(outputs["classification"][0].max(), rel=1e-4)
    (second,) = Explainer(made, part="segmentation").explain(pixels)
    check_maps([first, second], ["grad_cam"], 64)
    assert "share" in second.target.facts and "probability" in first.target.facts
    with pytest.raises(ConfigError, match="expected one of classification, segmentation"):
        Explainer(made, part="detection")


def test_what_cannot_be_is_said():
    made = random_model(task_config("classification", "resnet8", **{"model.width": 8}))
    for wrong, message in (
        ({"methods": ["gradcam"]}, "did you mean 'grad_cam'"),
        ({"methods": ["attention_rollout"]}, "is for vision transformers that classify, and rando"),
        ({"map_name": "layer9"}, "no map 'layer9'; expected one of .*layer1, layer2"),
        ({"part": "detection"}, "is for config.task = 'multi_task', not 'classification'"),
        ({"box": 2}, "config.task = 'classification' tells no boxes"),
    ):
        with pytest.raises(ConfigError, match=message):
            Predictor(made).explain(pictures(64), **wrong)


def test_the_answer_for_the_image_alone_is_explained():
    """Not the mean over the views of an evaluation, which is another one."""
    config = task_config("classification", "lenet", **{"data.image_size": 32})
    pixels, made = pictures(32), random_model(config)
    small = jax.tree.map(lambda leaf: 0.3 * leaf, made.variables)  # no probability is 1
    made = dataclasses.replace(made, variables=small)
    alone = Predictor(made)(pixels[0])["classes"][0]
    config.eval.tta = "mirror"
    made = dataclasses.replace(made, task=make_task(config))
    of_views = Predictor(made)(pixels[0])["classes"][0]["probability"]
    (found,) = Explainer(made).explain(pixels[:1])
    assert found.target.facts["probability"] == pytest.approx(alone["probability"], rel=1e-5)
    assert of_views != pytest.approx(alone["probability"], rel=1e-4)
    assert alone["probability"] < 0.99


def test_integrated_gradients_add_up_where_the_network_is_smooth():
    config = task_config("classification", "vit_ti16", **{"data.image_size": 32})
    model = create_model("vit_ti16", num_classes=3, depth=1, width=32, heads=2, patch=8)
    made, pixels = random_model(config, model=model), pictures(32)
    explainer = Explainer(made, steps=20)
    found = explainer.explain(pixels, ["integrated_gradients"], of_class=1)
    for one in found:
        facts, array = one.facts["integrated_gradients"], one.maps["integrated_gradients"]
        assert array.sum() == pytest.approx(facts["difference"], rel=1e-3)


def test_random_weights_give_other_maps():
    """A sanity check that edge detectors fail (Adebayo et al. 2018); similar ones do not."""
    config = task_config("classification", "lenet", **{"data.image_size": 32})
    made, other = (random_model(config, seed) for seed in (0, 1))
    near = jax.tree.map(lambda one, two: one + 0.01 * two, made.variables, other.variables)
    near = dataclasses.replace(made, variables=near)
    pixels = pictures(32, 4)
    maps, of_near, of_other = (
        Explainer(model, steps=5).explain(pixels, EVERY, of_class=1)
        for model in (made, near, other)
    )

    def alike(name, others):
        """The mean rank correlation of maps."""
        found = [
            spearmanr(*(np.abs(one.maps[name]).ravel() for one in pair)).statistic
            for pair in zip(maps, others, strict=True)
            if all(one.maps[name].any() for one in pair)
        ]
        return np.mean(found)

    for name in EVERY:
        assert alike(name, of_near) > 0.9, name
        assert alike(name, of_other) < 0.7, name


# A small variant of each family, and a size in pixels that it can take.
FAMILIES = {
    **{"alexnet": 64, "vgg11_bn": 64, "googlenet": 64, "inception_v3": 128, "resnet18": 64},
    **{"bit_r50x1": 64, "densenet121": 64, "squeezenet1_1": 64, "mobilenet_v2": 64},
    **{"mobilenet_v3_small": 64, "efficientnet_b0": 64, "regnet_y_400mf": 64, "nfnet_f0": 64},
    **{"convnext_tiny": 64, "vit_ti16": 64, "mixer_s32": 64, "swin_t": 64, "airbench94": 32},
    **{"cspdarknet_nano": 64, "lenet": 32, "inception_resnet_v1": 128},
    "mobilefacenet": 64,
}


def test_there_is_one_of_each_family():
    assert {FACTS[name].family for name in FAMILIES} == {facts.family for facts in FACTS.values()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # test_methods.py has those that are special.
    [pytest.param(n, marks=[pytest.mark.exhaustive] * (n != "swin_t")) for n in FAMILIES],
)
def test_every_family_is_explained(name):
    """By what its logits depend on: the map's gradient is not zero."""
    size = FAMILIES[name]
    config, methods = task_config("classification", name), ["grad_cam", "integrated_gradients"]
    config.data.image_size = size
    for seed in range(2):
        explainer = Explainer(random_model(config, seed), steps=1)
        for label in range(3):
            found = explainer.explain(pictures(size), methods, of_class=label)
            check_maps(found, methods, size)
            if any(one.maps["grad_cam"].any() for one in found):  # it is 0 where all speaks against
                return
    raise AssertionError("no class has a map")
