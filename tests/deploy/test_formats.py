"""SavedModel, ONNX and LiteRT: what their own runtimes say is what the model says."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from test_export import SMALLEST, random_model, task_config

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.deploy import folder, savedmodel_photos
from imagenet_jax.deploy.comparison import Difference, check_decisions
from imagenet_jax.deploy.export import export
from imagenet_jax.deploy.folder import FORMATS
from imagenet_jax.errors import ExportError
from imagenet_jax.models.facts import FACTS

pytest.importorskip("jax2onnx", reason="an extra")
pytest.importorskip("ai_edge_litert", reason="an extra")
OTHERS = ("savedmodel", "onnx", "onnx_int8", "litert", "litert_float16", "litert_int8")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network with all that converters stumble over: padded pools, ReLU6, a head of several."""
    fields = {"model.width": 16, "model.dtype": "float32", "data.fake_eval_examples": 40}
    config = task_config("classification", "resnet18", **fields)
    made = random_model(config)
    out = tmp_path_factory.mktemp("formats") / "out"
    facts = export(made, out, formats=OTHERS, platforms=("cpu",))
    return SimpleNamespace(model=made, out=out, facts=facts)


def outputs_of(exported, pixels):
    return Predictor(exported.model).outputs_of(pixels)


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.xdist_group("formats")  # they share what takes long
def test_onnx_runtime(exported, pixels):
    """Any number of images; nothing in it but ONNX's own operations, of the opset that it says."""
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.out / "model.onnx")
    (found,) = session.run(["logits"], {"images": pixels})
    np.testing.assert_allclose(found, outputs_of(exported, pixels), rtol=1e-4, atol=1e-5)
    model = onnx.load(exported.out / "model.onnx")
    opset = exported.facts["formats"]["onnx"]["opset"]
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    kinds = {node.op_type for node in model.graph.node}
    assert "Conv" in kinds and not kinds & {"BatchNormalization", "Sqrt", "Shape"}


@pytest.mark.slow
@pytest.mark.xdist_group("formats")
def test_onnx_of_integers(exported, pixels):
    """Weights are int8, with a factor for each channel, and a quarter of the bytes."""
    import onnx

    model = onnx.load(exported.out / "model_int8.onnx")
    of = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    quantised = [array for array in of.values() if array.dtype == np.int8 and array.ndim == 4]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(quantised) == len(convolutions)
    scales = [len(of[f"{name}"]) for name in of if name.endswith("_scale") and of[name].ndim == 1]
    assert set(scales) >= {array.shape[0] for array in quantised}
    facts = exported.facts["formats"]
    assert facts["onnx_int8"]["bytes"] < 0.4 * facts["onnx"]["bytes"]
    assert facts["onnx_int8"]["calibrated_on"] == 8  # 40 examples, 32 of which are compared


@pytest.mark.slow
@pytest.mark.xdist_group("formats")
def test_litert(exported, pixels):
    from ai_edge_litert.interpreter import Interpreter

    expected = outputs_of(exported, pixels)
    for name, tolerance in (("litert", 1e-5), ("litert_float16", 0.01), ("litert_int8", 0.5)):
        interpreter = Interpreter(str(exported.out / FORMATS[name].file))
        run = interpreter.get_signature_runner("serving_default")
        found = np.concatenate([run(images=image[None])["logits"] for image in pixels])
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
        of_weights = {detail["dtype"] for detail in interpreter.get_tensor_details()}
        assert (np.int8 in of_weights) == (name == "litert_int8")
    facts = exported.facts["formats"]
    assert facts["litert_float16"]["bytes"] < 0.6 * facts["litert"]["bytes"]
    assert facts["litert_int8"]["bytes"] < 0.4 * facts["litert"]["bytes"]


@pytest.mark.slow
@pytest.mark.xdist_group("formats")
def test_tensorflow_serving_is_given_images_or_files(exported, pixels):
    """A photo in a file is cropped and resized as in evaluation."""
    from imagenet_jax.data.host_tensorflow import tf

    loaded = tf.saved_model.load(str(exported.out / "savedmodel"))
    found = loaded.signatures["serving_default"](images=tf.constant(pixels))["logits"].numpy()
    np.testing.assert_allclose(found, outputs_of(exported, pixels), rtol=1e-4, atol=1e-5)
    photo = sklearn.datasets.__path__[0] + "/images/flower.jpg"
    with open(photo, "rb") as file:
        data = tf.constant([file.read()])
    found = loaded.signatures["photos"](image_bytes=data)["logits"].numpy()
    expected = Predictor(exported.model).outputs(photo)
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    assert exported.facts["formats"]["savedmodel"]["from_files"]["photos"] == 2


@pytest.mark.parametrize("shape", [(50, 90), (90, 50), (64, 64), (7, 200)])
@pytest.mark.parametrize(
    "crop", ["center_crop", "resize_center_crop", "resize", "letterbox", "none"]
)
def test_photos_are_prepared_as_in_evaluation(crop, shape):
    """And boxes return to the photo."""
    from imagenet_jax.data.host_tensorflow import tf
    from imagenet_jax.data.images.preprocess import Preprocess

    config = task_config("classification", "resnet18", **{"data.eval_crop": crop})
    config.data.update(resize_antialias=True, pad_fill=(1, 2, 3))
    shape = (64, 64) if crop == "none" else shape
    smooth = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(smooth).resize(shape[::-1], Image.Resampling.BILINEAR))
    images = []

    def call(batch):
        images.append(batch)
        return {"images": batch, "boxes": tf.constant([[[4.0, 8.0, 20.0, 30.0]]])}

    data = tf.constant([tf.io.encode_png(photo).numpy()])
    found = savedmodel_photos.photo_function(call, config)(data)
    expected = Predictor(random_model(config)).preprocess(photo)
    apart = np.abs(found["images"].numpy().astype(int) - expected)
    assert apart.max() <= 1
    boxes = Preprocess(config.data, 0, train=False).restore_boxes(
        np.array([[4.0, 8.0, 20.0, 30.0]]), shape
    )
    np.testing.assert_allclose(found["boxes"].numpy()[0], boxes, atol=1e-3)


@pytest.mark.slow
def test_a_network_in_bfloat16_computes_in_float32_elsewhere(tmp_path):
    fields = {"model.width": 16, "model.dtype": "bfloat16", "data.fake_eval_examples": 8}
    made = random_model(task_config("segmentation", "resnet18", "unet", **fields))
    found = export(made, tmp_path / "out", formats=("onnx", "litert"))["formats"]
    for facts in found.values():
        assert facts["changed_decisions"] == 0 and facts["computes_in"] == "float32"


@pytest.mark.slow
def test_suppression_is_in_a_savedmodel(tmp_path):
    fields = {"model.width": 16, "model.dtype": "float32", "data.fake_eval_examples": 2}
    made = random_model(task_config("detection", "resnet18", "fcos", **fields))
    how = {"formats": ("savedmodel",), "inputs": "float32"}
    found = export(made, tmp_path / "out", **how)["formats"]["savedmodel"]
    assert found["images_at_once"] == 1 and found["changed_decisions"] == 0


def test_what_is_not_installed_is_said_early(finished_run, tmp_path, monkeypatch, capsys):
    there = folder._is_there
    monkeypatch.setattr(folder, "_is_there", lambda name: name != "jax2onnx" and there(name))
    argv = ["export", f"--workdir={finished_run}", f"--out={tmp_path}/out", "--format=onnx"]
    assert main(argv) == 1
    assert "--format=onnx needs packages: pip install jax2onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_integers_that_say_something_else_are_refused():
    check_decisions(Difference(32, 0.4, 8), "a file")
    for wrong in (Difference(32, 0.4, 9), Difference(32, float("inf"), 0)):
        with pytest.raises(ExportError, match="give more photos"):
            check_decisions(wrong, "a file")


# Whose operations stand for those of the others.
IN_CI = ("resnet8", "densenet121", "mobilenet_v3_small", "vit_ti16", "squeezenet1_1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n not in IN_CI)) for n in SMALLEST]
)
def test_a_model_of_each_family(name, tmp_path):
    """As ONNX, LiteRT and SavedModel."""
    size = min(FACTS[name].image_size, 96 if not re.match("swin|vit|deit|mixer", name) else 224)
    fields = {"data.image_size": size, "data.fake_eval_examples": 4, "data.eval_crop": "resize"}
    fields["model.dtype"] = "float32"
    made = random_model(task_config("classification", name, **fields))
    formats = ("onnx", "litert", "savedmodel")
    found = export(made, tmp_path / "out", formats=formats)["formats"]
    assert all(facts["changed_decisions"] == 0 for facts in found.values())
    assert json.loads((tmp_path / "out" / "export.json").read_text())["formats"] == found
