import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.data import open_split
from imagenet_jax.devices import parallel
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import CheckpointError, ConfigError, WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.table import MODELS
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.table import make_task
from imagenet_jax.training.finetune import _why_new, starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program
from imagenet_jax.training.tuning import decay_by_layer, layer_depths
from imagenet_jax.weights.adapt import adapt, resample_positions
from imagenet_jax.weights.files import write_safetensors


def one_step(config):
    """The program, and the state before and after a step on 8 devices, on the host."""
    mesh = make_mesh()
    split = open_split(config, train=True)
    program = make_program(
        Classification.of_size(config, split.num_classes), mesh, num_examples=split.num_examples
    )
    state = program.init_state()
    before = jax.device_get(state)
    (batch,) = split.train_batches(parallel.local_rows(mesh, config.batch_size), 0, 1)
    step = program.compile_train_step()
    after, _ = step(state, parallel.put_batch(batch, mesh))
    return step, before, jax.device_get(after)


def changed(before, after):
    """The paths of the leaves that differ."""
    leaves = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {tuple(key.key for key in path) for (path, old), new in leaves if (old != new).any()}


@pytest.fixture
def vit_config(tiny_config, monkeypatch):
    """A ViT of four blocks."""
    monkeypatch.setitem(MODELS, "vit_ti16", functools.partial(MODELS["vit_ti16"], depth=4))
    tiny_config.model.name, tiny_config.model.width, tiny_config.model.stem = "vit_ti16", 0, ""
    tiny_config.data.image_size = 32
    return tiny_config


def test_a_frozen_backbone_is_really_frozen(tiny_config):
    tiny_config.optim.weight_decay = 0.1
    full, _, everything = one_step(tiny_config)
    tiny_config.finetune.mode = "head"
    step, before, after = one_step(tiny_config)
    assert changed(before.params, after.params) == {("fc", "kernel"), ("fc", "bias")}
    assert not changed(before.batch_stats, after.batch_stats)
    # Momentum of the head only, and beside it the count of the schedule.
    assert sum(leaf.size for leaf in jax.tree.leaves(after.opt_state)) == 32 * 10 + 10 + 1
    assert len(jax.tree.leaves(everything.opt_state)) > 20
    # No gradient: two thirds of the arithmetic of a training step are gone.
    assert step.cost_analysis()["flops"] < 0.45 * full.cost_analysis()["flops"]


@pytest.mark.parametrize("mode", ["full", "layerwise"])
def test_frozen_norms_are_really_frozen(tiny_config, mode):
    tiny_config.model.frozen_norm, tiny_config.finetune.mode = True, mode
    tiny_config.optim.weight_decay, tiny_config.optim.decay_norm_and_bias = 0.1, True
    tiny_config.model.remat = mode == "layerwise"
    _, before, after = one_step(tiny_config)
    paths = {path[:-1] for path in changed(before.params, after.params)}
    # A residual branch that starts at zero gives its convolutions no gradient, but they decay.
    assert {path[-1] for path in paths} == {"conv1", "conv2", "downsample.0", "fc"}
    assert not changed(before.batch_stats, after.batch_stats)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(before.params) if leaf.ndim > 1)
    momentum = sum(leaf.size for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim)
    assert momentum == kernels + 10  # and the head's bias


def test_rules_freeze_and_what_they_do_not_find_is_told(tiny_config):
    tiny_config.optim.rules = ("^layer[12] frozen", "@head frozen", "@stem rate=2")
    _, before, after = one_step(tiny_config)
    paths = {path[0] for path in changed(before.params, after.params)}
    assert paths == {"conv1", "bn1", *(name for name in before.params if "layer3" in name)}
    trained = [before.params[name] for name in paths]
    momentum = sum(leaf.size for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim)
    assert momentum == sum(leaf.size for leaf in jax.tree.leaves(trained))
    tiny_config.optim.rules = ("^layer9/ decay=0",)
    with pytest.raises(ConfigError, match=r"'\^layer9/' of '\^layer9/ decay=0' finds no parameter"):
        one_step(tiny_config)
    tiny_config.optim.rules = ("@all frozen",)
    with pytest.raises(ConfigError, match="freezes all of resnet8"):
        one_step(tiny_config)


def test_lora_changes_little_and_starts_from_the_pretrained_model(vit_config):
    vit_config.finetune.mode, vit_config.finetune.lora_rank = "lora", 4
    vit_config.optim.learning_rate = 1.0
    _, before, after = one_step(vit_config)
    paths = changed(before.params, after.params)
    blocks = {path[1:] for path in paths if path[0].startswith("blocks")}
    # lora_a has no gradient while lora_b is zero, and the new head is.
    assert blocks <= {("attn", name, m) for name in ("qkv", "proj") for m in ("lora_a", "lora_b")}
    assert {path for path in paths if path[0] == "head"} == {("head", "kernel"), ("head", "bias")}
    program = make_program(Classification.of_size(vit_config, 10), make_mesh())
    merged = program.tuning.merge_lora(before.params)
    plain = variable_shapes(program.model, 32)["params"]
    assert jax.tree.structure(merged) == jax.tree.structure(plain)
    attention = before.params["blocks.3"]["attn"]["qkv"]
    np.testing.assert_array_equal(merged["blocks.3"]["attn"]["qkv"]["kernel"], attention["kernel"])
    attention["lora_b"] = np.ones_like(attention["lora_b"])
    expected = attention["kernel"] + 4.0 * attention["lora_a"].sum(1, keepdims=True)
    found = program.tuning.merge_lora(before.params)["blocks.3"]["attn"]["qkv"]["kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lora_is_for_transformers(tiny_config):
    tiny_config.finetune.mode = "lora"
    with pytest.raises(ConfigError, match=r"is for transformers.*'resnet8' has no attention"):
        make_program(Classification.of_size(tiny_config, 10), make_mesh())


@pytest.mark.slow
def test_a_lora_run_trains_resumes_and_is_evaluated(vit_config, tmp_path):
    vit_config.finetune.mode, vit_config.duration = "lora", "4 steps"
    vit_config.eval.every, vit_config.checkpoint.every = "", "2 steps"
    whole = train(vit_config, tmp_path / "a")
    from imagenet_jax.inference.evaluate import evaluate_run
    from imagenet_jax.training.trained import trained_model

    assert evaluate_run(vit_config, tmp_path / "a", which="latest")["eval"] == whole["eval"]
    assert "lora_a" not in str(trained_model(tmp_path / "a", "latest").variables["params"])


@pytest.mark.slow
def test_updates_shrink_from_block_to_block():
    model = create_model("resnet18", num_classes=4)
    params = variable_shapes(model, 32)["params"]
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    scale = decay_by_layer(model, 32, 0.5)
    updates, _ = scale.update(ones, scale.init(ones), ones)
    found = {
        name: {float(leaf.max()) for leaf in jax.tree.leaves(updates[name])} for name in params
    }
    assert found["fc"] == {1.0} and found["layer4.1"] == {0.5} and found["layer4.0"] == {0.25}
    assert found["layer1.0"] == {0.5**8} and found["conv1"] == found["bn1"] == {0.5**9}


# Modules and their depths, in the order of the network; the last is the head.
DEPTHS = {
    "vit_ti16": "patch_embed.proj 0, blocks.0 1, blocks.3 4, blocks.11 12, norm 13, head 13",
    "convnext_tiny": "stem.0 0, stages.0.blocks.2 2, stages.1.downsample.1 3, stages.1.blocks.0 3",
    "vgg11_bn": "features.0 0, features.1 0, features.4 1, features.5 1, classifier.6 10",
    "vgg16": "features.0 0, features.2 1, classifier.3 12, classifier.6 13",
    # 16 blocks, of which the fourth and the fifth share a depth, and so on
    "efficientnet_lite0": "features.0.0 0, features.1.0 1, features.3.0 3, features.3.1 4, "
    "features.4.0 5, features.4.1 6, features.4.2 6, features.7.0 12, classifier.1 13",
    "densenet121": "features.conv0 0, features.denseblock1.denselayer1 1, "
    "features.denseblock4.denselayer16 12, features.norm5 13, classifier 13",
    "googlenet": "conv1 0, conv3 0, inception3a 1, inception4a 3, aux1 10, inception4b 4, "
    "inception5b 9, fc 10",
}


SLOW = ("densenet121", "googlenet")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in DEPTHS]
)
def test_depths_follow_the_order_of_the_network(name):
    depths = layer_depths(create_model(name, num_classes=3), 32)
    for module, depth in (pair.split(" ") for pair in DEPTHS[name].split(", ")):
        assert depths[module] == int(depth), module
    assert depths[list(depths)[-1]] == max(depths.values())


@pytest.mark.slow
def test_layerwise_training_moves_the_head_most(tiny_config):
    tiny_config.finetune.mode, tiny_config.finetune.layer_decay = "layerwise", 0.1
    tiny_config.optim.weight_decay = 0.0
    _, before, after = one_step(tiny_config)
    tiny_config.finetune.mode = "full"
    _, same, full = one_step(tiny_config)
    for name, factor in (("conv1", 1e-4), ("layer3.0", 0.1), ("fc", 1.0)):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).sum(), before.params, after.params)[name]
        whole = jax.tree.map(lambda a, b: np.abs(a - b).sum(), same.params, full.params)[name]
        ratio = sum(jax.tree.leaves(moved)) / sum(jax.tree.leaves(whole))
        assert ratio == pytest.approx(factor, rel=0.05)


def test_positions_are_resampled_as_in_timm():
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(1, 1 + 14 * 14, 8)).astype(np.float32)
    found = resample_positions(table, 1 + 10 * 10, 1)
    grid = torch.tensor(table[:, 1:].reshape(1, 14, 14, 8).transpose(0, 3, 1, 2))
    expected = torch.nn.functional.interpolate(grid, (10, 10), mode="bicubic", antialias=True)
    expected = expected.numpy().transpose(0, 2, 3, 1).reshape(1, 100, 8)
    np.testing.assert_array_equal(found[:, :1], table[:, :1])
    # The kernels differ a little: a = -0.5 in JAX, and in torch where it filters.
    np.testing.assert_allclose(found[:, 1:], expected, atol=1e-3)


def random_variables(model, size):
    """With scales and variances of about one, so that an image makes a difference."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        array = rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        return 1 + np.abs(array) if path[-1].key in ("scale", "var") else array

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model, size))


def test_another_size_other_classes_and_grey_images():
    old, new = (create_model("vit_ti16", num_classes=count) for count in (5, 3))
    variables = adapt(random_variables(old, 48), new, 32, new_head=True)
    assert variables["params"]["head"]["kernel"].shape == (192, 3)
    assert variables["params"]["pos_embed"].shape == (1, 1 + 2 * 2, 192)

    model = create_model("resnet8", num_classes=5)
    source = random_variables(model, 8)
    grey = np.random.default_rng(1).normal(size=(2, 8, 8, 1)).astype(np.float32)
    apply = jax.jit(functools.partial(model.apply, train=False))
    expected = apply(source, grey.repeat(3, -1))
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    for channels in (1, 6):
        adapted = adapt(source, model, 8, new_head=False, channels=channels)
        found = apply(adapted, grey.repeat(channels, -1))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(WeightsError, match=r"fc\.bias has the shape \(5,\), expected \(4,\)"):
        adapt(source, create_model("resnet8", num_classes=4), 8, new_head=False)
    with pytest.raises(WeightsError, match=r"missing layer1\.1\.conv1\.weight"):
        adapt(source, create_model("resnet20", num_classes=5), 8, new_head=False)


@pytest.mark.parametrize("classes", [7, 10])
def test_training_starts_from_a_file(tiny_config, tmp_path, classes, caplog):
    model, path = create_model("resnet8", num_classes=classes), tmp_path / "w.safetensors"
    variables = random_variables(model, 8)
    write_safetensors(path, variables)
    tiny_config.finetune.weights = str(path)
    program = make_program(Classification.of_size(tiny_config, 10), make_mesh())
    with pytest.raises(WeightsError, match=r"w\.safetensors'.*conv1\.weight has the shape"):
        starting_variables(program)  # half as wide
    tiny_config.model.width = 0
    program = make_program(Classification.of_size(tiny_config, 10), make_mesh())
    with caplog.at_level("WARNING"):
        state = jax.device_get(program.init_state(starting_variables(program)))
    for name in ("conv1", "layer2.0"):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], variables["params"][name])
    # What the classes of a file mean is not known, so the head is new.
    assert not state.params["fc"]["kernel"].any()
    assert "the head is new, as the weights have none, or do not say what" in caplog.text


def test_why_a_head_is_new():
    facts, names = {"class_names": ["a", "b"]}, "class_names"
    assert _why_new(facts, facts) == "" and "have none" in _why_new({}, facts)
    assert "in another order, 'b' there and 'a' here" in _why_new({names: ["b", "a"]}, facts)
    assert "are 3 class names there and 2 here" in _why_new({names: ["a", "b", "c"]}, facts)
    assert "the keypoints are not the same" in _why_new({"keypoints": 5}, facts)


@pytest.mark.slow
def test_training_starts_from_a_run_with_a_new_head(tiny_config, tmp_path):
    train(tiny_config, tmp_path / "first")
    from imagenet_jax.training.trained import trained_model

    source = jax.device_get(trained_model(tmp_path / "first", "best").variables)
    tiny_config.finetune.weights = str(tmp_path / "first")
    tiny_config.data.fake_classes = 4
    program = make_program(Classification.of_size(tiny_config, 4), make_mesh())
    start = starting_variables(program)
    state = jax.device_get(program.init_state(start))
    assert state.params["fc"]["kernel"].shape == (32, 4)
    for name in ("conv1", "layer3.0"):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], source["params"][name])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, source["batch_stats"])
    tiny_config.duration, tiny_config.optim.learning_rate = "1 steps", 0.0
    summary = train(tiny_config, tmp_path / "second")
    assert summary["eval"]["num_examples"] == 30
    tiny_config.data.fake_classes = 10
    task = make_task(tiny_config, open_split(tiny_config, train=True))
    same = starting_variables(make_program(task, make_mesh()))["params"]["fc"]["kernel"]
    np.testing.assert_array_equal(same, source["params"]["fc"]["kernel"])


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("resnet50.tv_in1k", ConfigError, "are of resnet50, config.model.name is 'resnet8'"),
        ("resnet5O", ConfigError, "did you mean 'resnet50'"),
        ("nothing.pth", WeightsError, "there is no file nothing.pth"),
        ("tests", CheckpointError, "no checkpoints in tests"),
    ],
)
def test_weights_that_cannot_be_are_named(tiny_config, weights, error, message):
    tiny_config.finetune.weights = weights
    program = make_program(Classification.of_size(tiny_config, 10), make_mesh())
    with pytest.raises(error, match=message):
        starting_variables(program)


def test_optimizers_keep_no_state_for_frozen_parameters(tiny_config):
    tiny_config.finetune.mode, tiny_config.optim.name = "head", "adamw"
    program = make_program(Classification.of_size(tiny_config, 10), make_mesh(), num_examples=40)
    shapes = program.state_shapes()
    trained, _ = program.tuning.split(shapes.params)
    assert {leaf.shape for leaf in jax.tree.leaves(trained)} == {(32, 10), (10,)}
    counts = jax.tree.leaves(jax.tree.map(lambda leaf: leaf.size, shapes.opt_state))
    assert max(counts) == 320
