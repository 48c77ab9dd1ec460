"""The public interface: what docs/api.md describes."""

import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from test_loop import StopAt

import imagenet_jax as ij
from imagenet_jax import api
from imagenet_jax.inference.evaluate import evaluate_run
from imagenet_jax.training import loop
from imagenet_jax.training.state import state_sha256
from imagenet_jax.weights.files import write_safetensors

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def parameters(function, *, skip=0):
    """Its signature as the page prints it."""
    found = list(inspect.signature(function).parameters.values())[skip:]
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in found]
    return str(inspect.Signature(plain))


def test_the_page_has_every_name_with_its_parameters():
    documented = dict(re.findall(r"^### `([\w.]+)(\(.*\))?`$", PAGE, re.MULTILINE))
    methods = {"Predictor.pretrained", "Predictor.from_run"}
    assert documented.keys() == {*ij.__all__, *methods}
    for name, printed in documented.items():
        first, _, method = name.partition(".")
        found = getattr(getattr(ij, first), method or "__doc__") if method else getattr(ij, first)
        assert found.__doc__
        assert printed == ("" if name == "UserError" else parameters(found)), name
    calls = re.findall(r"`predictor\.(\w+)(\(.*?\))`", PAGE)
    assert {name for name, _ in calls} | {"pretrained", "from_run"} == {
        name
        for name, value in vars(ij.Predictor).items()
        if not name.startswith("_") and not isinstance(value, property)
    }
    for name, printed in calls:
        assert printed == parameters(getattr(ij.Predictor, name), skip=1), name


def test_the_import_is_light():
    code = (
        "import sys, imagenet_jax; print({'jax', 'flax', 'tensorflow', 'clu'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = ij.trian


@pytest.fixture
def predictor(finished_run, one_block):
    return ij.Predictor.from_run(finished_run, checkpoint="latest")


def test_an_image_is_a_path_bytes_pillows_or_an_array(predictor, tmp_path):
    pixels = load_sample_image("china.jpg")[::4, ::4]
    path = tmp_path / "on its side.png"
    sideways = Image.fromarray(np.rot90(pixels))  # and EXIF says so: 6, turn it clockwise
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(path, exif=exif)
    with Image.open(path) as image:
        given = [path, str(path), path.read_bytes(), image, pixels]
        outputs = predictor.outputs(given)
        many = predictor.outputs(given * 8)  # more than fit at once
    np.testing.assert_array_equal(outputs, np.repeat(outputs[:1], 5, 0))
    np.testing.assert_allclose(many, np.repeat(outputs[:1], 40, 0), rtol=1e-5, atol=1e-6)
    assert predictor.preprocess(path).shape == (1, 8, 8, 3)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(
        predictor.outputs(grey), predictor.outputs(np.stack([grey] * 3, -1))
    )
    (alone,) = jax.nn.softmax(outputs[:1])
    answer = predictor(path, top=10)
    for found in answer["classes"]:
        assert found["probability"] == pytest.approx(float(alone[found["label"]]), rel=1e-4)
        assert predictor.class_names[found["label"]] == found["class_name"]
    several = predictor([path])
    assert [several, len(predictor(np.stack([pixels, pixels]), top=2))] == [[predictor(path)], 2]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64 \[4, 4, 3\]; expected a path"),
        (np.zeros((3, 8, 9), np.uint8), r"uint8 \[3, 8, 9\]"),
        (np.zeros((0, 8, 3), np.uint8), "it has 0 x 8 pixels"),
        (np.zeros(4, np.uint8), r"uint8 \[4\]"),
        (None, "NoneType"),
        (b"hello", "no image"),
        ("nothing.jpg", "nothing.jpg cannot be read"),
        ([], "no images are given"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no images are given"),
    ],
)
def test_what_is_no_image_is_said_to_be_none(images, message, predictor):
    with pytest.raises(ij.UserError, match=message):
        predictor.outputs(images)


def test_features_are_what_the_head_sees_and_maps_have_names(predictor):
    pixels = np.stack([load_sample_image(name)[:400, :400] for name in ("china.jpg", "flower.jpg")])
    features = predictor.features(pixels)
    head = jax.device_get(predictor.variables["params"]["fc"])
    np.testing.assert_allclose(
        features @ head["kernel"] + head["bias"], predictor.outputs(pixels), rtol=1e-4, atol=1e-5
    )
    level = ij.levels(predictor.model)[-1]
    (found,) = predictor.features(pixels, [level.name]).values()
    np.testing.assert_allclose(found.mean((1, 2)), features, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="there is no 'layer9'"):
        predictor.features(pixels, ["layer9"])


def test_an_evaluation_counts_what_the_verb_counts(predictor, finished_run, loop_config, tmp_path):
    result = predictor.evaluate()
    expected = evaluate_run(loop_config, finished_run, which="latest")
    assert result["eval"] == expected["eval"]
    folder = make_folder(tmp_path)
    with pytest.raises(ij.UserError, match="'china' of the data set is none of the 10 classes"):
        predictor.evaluate(f"folder:{folder}")


def make_folder(parent):
    folder = parent / "photos"
    for name in ("china", "flower"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(10):
            crop = load_sample_image(f"{name}.jpg")[20 * k : 20 * k + 100, 30 * k : 30 * k + 100]
            Image.fromarray(crop).save(folder / name / f"{k}.jpg")
    return folder


def test_a_run_that_is_not_there_and_fields_that_do_not_exist(finished_run, tmp_path):
    with pytest.raises(ij.UserError, match="no checkpoints in"):
        ij.Predictor.from_run(tmp_path)
    with pytest.raises(ij.UserError, match="expected latest, best or one of the steps 20"):
        ij.Predictor.from_run(finished_run, checkpoint=3)
    with pytest.raises(ij.UserError, match=r"did you mean 'optim\.learning_rate'"):
        ij.load_config("quickstart", {"optim": {"lr": 0.1}})
    with pytest.raises(ij.UserError, match=r"optim.learning_rate = \(1,\) is of type tuple"):
        ij.load_config(fields={"optim.learning_rate": [1]})
    with pytest.raises(ij.UserError, match="there is no model 'resnet5'"):
        ij.Predictor.pretrained("resnet5")
    with pytest.raises(ij.UserError, match="the weights are of resnet8"):
        ij.Predictor.from_run(finished_run, fields={"model.name": "vgg11"})
    config = ij.load_config("quickstart", {"duration": "2 epochs", "optim.learning_rate": "1e-3"})
    assert (config.duration, config.optim.learning_rate) == ("2 epochs", 0.001)


@pytest.mark.slow
def test_weights_get_a_new_head_and_another_image_size(tmp_path):
    model = ij.create_model("vit_ti16", num_classes=3)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), variables)
    write_safetensors(tmp_path / "vit.safetensors", variables)
    file = tmp_path / "vit.safetensors"
    loaded, same = ij.load_model("vit_ti16", file=file)
    assert loaded.num_classes == 3
    jax.tree.map(np.testing.assert_array_equal, same["params"], variables["params"])
    larger, adapted = ij.load_model("vit_ti16", file=file, num_classes=7, image_size=64)
    assert adapted["params"]["pos_embed"].shape == (1, 17, 192)
    logits = larger.apply(adapted, jnp.ones((1, 64, 64, 3)), train=False)
    np.testing.assert_array_equal(logits, np.zeros((1, 7)))
    predictor = ij.Predictor.pretrained(
        "vit_ti16", file=file, class_names=("a", "b", "c"), fields={"data.image_size": 48}
    )
    assert predictor.outputs(load_sample_image("china.jpg")).shape == (1, 3)


def test_models_are_listed_by_pattern():
    assert ij.list_models("efficientnet_lite[01]") == ["efficientnet_lite0", "efficientnet_lite1"]
    assert "efficientnet_lite0.tf_in1k" in ij.list_models("*lite0*", pretrained=True)
    assert ij.list_models("nothing*") == []


def test_batches_begin_anywhere_and_evaluate_each_example_once(loop_config):
    stream = list(ij.batches(loop_config, train=True))
    assert len(stream) == 20
    later = list(ij.batches(loop_config, train=True, start=7, stop=9))
    jax.tree.map(np.testing.assert_array_equal, stream[7:9], later)
    with loop_config.unlocked():  # the schedule is of the training, which has more images
        loop_config.duration, loop_config.schedule.warmup = "4 epochs", "9 steps"
    index = np.concatenate([b["index"][b["mask"]] for b in ij.batches(loop_config, train=False)])
    assert sorted(index) == list(range(30))


def test_the_compiled_step_is_that_of_a_run(loop_config, finished_run, tmp_path):
    with loop_config.unlocked():
        loop_config.duration = "3 steps"
    program = ij.training_program(loop_config)
    state, step = ij.starting_state(program), program.compile_train_step()
    for batch in ij.batches(loop_config, train=True):
        state, sums = step(state, program.put_batch(batch))
    summary = ij.train(loop_config, tmp_path / "run")
    assert summary["state_sha256"] == state_sha256(state)
    assert program.task.summarize([jax.device_get(sums)])["num_examples"] == 16
    again = ij.train(loop_config, str(tmp_path / "run"))
    assert again["state_sha256"] == summary["state_sha256"]


def test_a_first_layer_is_fitted_to_training_images(loop_config):
    """airbench's: it whitens patches, so no two of its first twelve filters are alike."""
    with loop_config.unlocked():
        loop_config.model.update(name="airbench94", stem="", width=0, dtype="float32")
        loop_config.augment.update(mixup=0.0, cutmix=0.0)
        loop_config.data.image_size = 32
    program = ij.training_program(loop_config)
    state = ij.starting_state(program)
    batch = next(iter(ij.batches(loop_config, train=True)))
    images = np.asarray(program.task.inputs(batch, None, None, train=False)[0])
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    seen = patches @ np.asarray(state.params["whiten"]["kernel"]).reshape(12, 24)[:, :12]
    np.testing.assert_allclose(seen.T @ seen / len(seen), np.eye(12), atol=0.02)


@pytest.mark.parametrize("step", [0, 8])
def test_an_interrupt_of_a_notebook_does_not_end_it(step, loop_config, tmp_path, monkeypatch):
    """Before the first step it is raised; later the run is saved. The next call goes on."""

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(api, "make_tracking", lambda config: [StopAt(step, interrupt)])
    with monkeypatch.context() as patch:
        if step == 0:
            patch.setattr(loop, "say_facts", lambda *unused: interrupt())
            with pytest.raises(KeyboardInterrupt):
                ij.train(loop_config, tmp_path)
        else:
            assert ij.train(loop_config, tmp_path) is None
            assert [path.name for path in (tmp_path / "checkpoints").glob("8")] == ["8"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(api, "make_tracking", lambda config: [])
    assert ij.train(loop_config, tmp_path)["step"] == 20
