"""A class for each pixel: against torch and scikit-learn."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from sklearn.metrics import confusion_matrix, jaccard_score

from imagenet_jax import Predictor
from imagenet_jax.config import base_config, load_config
from imagenet_jax.data.sources.map_classes import VOC
from imagenet_jax.data.sources.scenes import SIZE, make_scene
from imagenet_jax.devices import make_mesh, parallel
from imagenet_jax.errors import ConfigError, DataError, WeightsError
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.tasks.segmentation import Segmentation
from imagenet_jax.training import evaluate_split, make_program
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.state import state_sha256


@pytest.fixture
def config(loop_config):
    """`loop_config` with U-Net on 5 classes of noise."""
    loop_config.task = "segmentation"
    loop_config.model.head = "unet"
    loop_config.data.fake_classes = 5
    loop_config.data.fake_eval_examples = 37
    loop_config.loss.auxiliary = 0.0
    loop_config.augment.pad = 0
    return loop_config


def task_of(classes, **fields):
    config = base_config()
    config.loss.update({"label_smoothing": 0.0} | fields)
    return Segmentation(config, tuple(map(str, range(classes))))


def logits_and_levels(count=3, side=6, classes=4):
    """Some pixels have no class."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, side, side, classes)).astype(np.float32)
    levels = random.integers(0, classes + 1, (count, side, side)).astype(np.uint8)
    return logits, np.where(levels == classes, 255, levels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), ("1.0", "2.0", "0.0", "0.5")])  # of the command line
def test_the_loss_is_torchs(smoothing, weights):
    torch = pytest.importorskip("torch")
    logits, levels = logits_and_levels()
    task = task_of(4, label_smoothing=smoothing, class_weights=weights)
    outcome = task.losses(
        lambda inputs: (inputs, {}), jnp.array(logits), jnp.array(levels, jnp.int32)
    )
    batch = {"segmentation": jnp.array(levels), "mask": jnp.ones(3, bool)}
    loss = outcome.numerators["loss"].sum() / task.denominators(batch)["pixels"]
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits.transpose(0, 3, 1, 2)),
        torch.tensor(levels.astype(np.int64)),
        weight=torch.tensor(list(map(float, weights))) if weights else None,
        ignore_index=255,
        label_smoothing=smoothing,
    )
    # torch smooths over the weighted classes and divides by the weights of the labels.
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_metrics_are_scikit_learns():
    logits, levels = logits_and_levels(count=5, classes=6)
    levels[levels == 5] = 255  # a class that is nowhere, and is said to be
    task = task_of(7)  # and one that is not said to be either
    padded = np.concatenate([logits, np.full((*levels.shape, 1), -9.0, np.float32)], -1)
    mask = np.array([True, True, False, True, True])
    parts = [slice(0, 2), slice(2, 5)]
    sums = [
        task.evaluation_sums(
            jnp.array(padded[p]), jnp.array(levels[p], jnp.int32), jnp.array(mask[p])
        )
        for p in parts
    ]
    found = task.summarize(jax.device_get(sums))
    known = (levels != 255) & mask[:, None, None]
    said, there = logits.argmax(-1)[known], levels[known]
    matrix = confusion_matrix(there, said, labels=range(6))
    assert found["miou"] == pytest.approx(jaccard_score(there, said, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx((said == there).mean())
    recall = (matrix.diagonal() / np.maximum(matrix.sum(1), 1))[matrix.sum(1) > 0]
    assert found["mean_accuracy"] == pytest.approx(recall.mean())
    assert found["classes_without_pixels"] == 1 and found["num_examples"] == 4
    meter = task.meter(None)
    for part in parts:
        seen = task.observe(jnp.array(padded[part]), jnp.array(levels[part], jnp.int32))
        rows = {name: np.asarray(array)[mask[part]] for name, array in seen.items()}
        meter.add(rows | {"index": np.arange(5)[part][mask[part]]})
    assert np.array_equal(meter.total[:, :6], [matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def test_an_image_and_its_map_are_mirrored_together():
    config = base_config()
    config.augment.update(flip=True, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    task = Segmentation(config, tuple("abcd"))
    levels = np.random.default_rng(0).integers(0, 4, (16, 8, 8)).astype(np.uint8)
    batch = {
        "image": jnp.array(np.repeat(levels[..., None], 3, -1)),
        "segmentation": jnp.array(levels),
        "index": jnp.arange(16),
        "epoch": jnp.zeros(16, jnp.int32),
    }
    image, targets = task.inputs(batch, jax.random.key(0), jnp.zeros((), jnp.int32), train=True)
    assert np.array_equal(np.round(255 * np.asarray(image[..., 0])), targets)
    mirrored = (np.asarray(targets) != levels).any((1, 2))
    assert 2 < mirrored.sum() < 14


def losses_of(config, devices, steps=10):
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    split = task_split(config, train=True)
    program = make_program(make_task(config, split), mesh, num_examples=split.num_examples)
    step, state, losses = program.compile_train_step(), program.init_state(), []
    rows = parallel.local_rows(mesh, config.batch_size)
    for batch in split.train_batches(rows, 0, steps):
        batch["segmentation"][::3, :4] = 255  # images weigh differently
        state, sums = step(state, parallel.put_batch(batch, mesh))
        losses.append(float(sums["loss"]) / int(sums["pixels"]))
    return losses


@pytest.mark.slow
@pytest.mark.xdist_group("eight_devices")
def test_devices_and_micro_batches_give_the_same_losses(config):
    config.model.update(head="deeplabv3", bn_group_size=2)
    config.loss.auxiliary, config.optim.learning_rate = 0.5, 0.02
    alone = losses_of(config, 1)
    assert alone[-1] < alone[0]
    for partitioner in ("jit", "shard_map"):
        config.partitioner = partitioner
        np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)
    config.model.update(head="unet", bn_group_size=1)  # which has no dropout
    whole = losses_of(config, 8)
    config.accumulate = 2
    np.testing.assert_allclose(losses_of(config, 8), whole, rtol=1e-4)


@pytest.mark.xdist_group("eight_devices")
def test_an_evaluation_counts_the_same_pixels_in_any_batches(config):
    results = []
    for devices, batch_size in ((1, 7), (8, 32), (1, 37)):
        config.eval.batch_size = batch_size
        mesh = make_mesh(config.sharding, jax.devices()[:devices])
        split = task_split(config, train=False)
        program = make_program(make_task(config, split), mesh, num_examples=40)
        step = program.compile_eval_step(split.num_examples)
        variables, meter = program.init_state().eval_variables(), program.task.meter(split)
        result = evaluate_split(program, step, variables, split, meter=meter)
        results.append((result["miou"], result["pixel_accuracy"], meter.total.tolist()))
        assert sorted(meter.index) == list(range(37)) and result["num_examples"] == 37
    assert results[0] == results[1] == results[2]


@pytest.mark.slow
def test_a_run_resumes_by_bits(config, tmp_path):
    config.duration, config.checkpoint.every, config.checkpoint.keep = "4 steps", "2 steps", 5
    whole = train(config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/4")
    again = train(config, tmp_path)
    assert again["step"] == 4 and whole["state_sha256"] == again["state_sha256"]
    assert whole["eval"] == again["eval"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("augment.mixup", 0.2, "augment.mixup"),
        ("augment.pad", 2, r"augment.pad \(set data.train_crop = 'scale_jitter'\)"),
        ("data.policy", "randaugment", "data.policy"),
        ("data.rotate", 10.0, "data.rotate"),
        ("loss.name", "sigmoid", "loss.name = 'sigmoid'"),
        ("loss.class_weights", ("balanced",), "loss.class_weights"),
        ("finetune.mode", "head", "finetune.mode = 'head'"),
        ("model.head", "lraspp", "lraspp needs a map of stride 8"),
    ],
)
def test_what_does_not_go_with_maps_is_refused(config, field, value, message):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        make_task(config).model()


def test_more_classes_than_levels_and_other_weights_are_refused(config):
    config.loss.class_weights = (1.0, 2.0)
    with pytest.raises(ConfigError, match="class_weights has 2 numbers, and fake 5 classes"):
        make_task(config, task_split(config, train=True))
    config.data.fake_classes = 1000
    with pytest.raises(DataError, match="fake has 1000 classes of pixels; at most 255"):
        make_task(config, task_split(config, train=True))


def test_a_head_is_refused_for_classes_of_images(config):
    config.task = "classification"
    with pytest.raises(ConfigError, match=r"config.model.head = 'unet' is for config.task = 'segm"):
        make_task(config).model()


def test_scenes_are_exact():
    for number in range(40):
        scene = make_scene("train", number)
        levels, instances = scene.segmentation, scene.instances
        assert scene.image.shape == (SIZE, SIZE, 3) and len(scene.boxes) == len(scene.labels) >= 1
        for place, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True), 1):
            mask = instances == place
            assert (levels[mask] == label + 1).all()
            left, top, right, bottom = box
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() > 0
            assert all(inside.any(axis)[[0, -1]].all() for axis in (0, 1))
        ring = levels == 255
        assert (instances[ring] == 0).all() and (levels[(instances == 0) & ~ring] == 0).all()
        assert np.array_equal(make_scene("train", number).image, scene.image)
    assert not np.array_equal(make_scene("test", 0).image, make_scene("train", 0).image)


def test_a_classifier_becomes_the_backbone(config, finished_run):
    config.finetune.weights = str(finished_run)
    program = make_program(make_task(config), make_mesh(), num_examples=40)
    start = starting_variables(program)
    state = program.init_state(start)
    assert set(start["params"]) == {"backbone"} and "fc" not in start["params"]["backbone"]
    theirs = Predictor.from_run(finished_run).variables["params"]["conv1"]["kernel"]
    assert np.array_equal(state.params["backbone"]["conv1"]["kernel"], theirs)
    assert state_sha256(state) != state_sha256(program.init_state())


def test_shifted_views_are_refused(config):
    config.eval.tta = "mirror_shift"
    with pytest.raises(ConfigError, match=r"eval.tta = 'mirror_shift'"):
        make_task(config).model()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [21, 5])
def test_weights_of_torchvision_are_read_from_a_file(tmp_path, classes):
    torch = pytest.importorskip("torch")
    theirs = torchvision().models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=classes
    )
    torch.save(theirs.state_dict(), tmp_path / "lraspp.pth")
    config = load_config("segment_voc:lraspp_mobilenet_v3_large")
    config.finetune.weights = str(tmp_path / "lraspp.pth")
    program = make_program(Segmentation(config, VOC), make_mesh(), num_examples=32)
    start = starting_variables(program)
    shapes = program.state_shapes()
    assert jax.tree.map(np.shape, start["params"]) == jax.tree.map(np.shape, shapes.params)
    kernel = start["params"]["classifier"]["cbr.0"]["kernel"]
    expected = theirs.state_dict()["classifier.cbr.0.weight"].numpy()
    assert np.array_equal(kernel[0, 0].T, expected[..., 0, 0])
    head = start["params"]["classifier"]["low_classifier"]["kernel"]
    assert (head != 0).any() == (classes == 21)  # of other classes it is new
    config.model.head = "fcn"
    other = make_program(Segmentation(config, VOC), make_mesh(), num_examples=32)
    with pytest.raises(WeightsError, match=r"lraspp.pth: missing classifier.4.bias"):
        starting_variables(other)


def test_logits_are_the_mean_over_sizes_and_mirror_images():
    """Against torch's interpolate, of a network that gives each pixel its own levels."""
    torch = pytest.importorskip("torch")
    task = task_of(3)
    task.config.eval.update(tta="mirror", scales=(0.75, 1.0, 1.4))
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    weights, sides = np.linspace(0, 1, 128), []

    def apply(x):
        sides.append(x.shape[1])
        return x * weights[None, None, : x.shape[2], None]  # another one for each column

    found = task.predict(apply, jnp.array(image))
    assert sides == [64, 64, 64, 64, 96, 96]  # 48 and 89.6, rounded to multiples of 32
    expected = 0
    for side in (64, 64, 96):
        resize = torch.nn.functional.interpolate
        x = resize(torch.tensor(image).permute(0, 3, 1, 2), (side, side), mode="bilinear")
        columns = torch.tensor(weights[:side], dtype=torch.float32)
        both = x * columns + (x.flip(-1) * columns).flip(-1)
        expected += resize(both, (64, 64), mode="bilinear") / 6
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eval.scales": (0.95, 1.0), "data.image_size": 224}, r"are \[224, 224\] pixels .* twice"),
        (
            {"eval.scales": (1.0, 2.0), "model.name": "vit_ti16", "model.head": "fcn"},
            "'vit_ti16' has parameters for images of one size",
        ),
        (
            {"task": "detection", "model.name": "vgg11_bn", "model.head": "ssd"}
            | {"eval.scales": (0.5, 1.0), "data.image_size": 300, "data.eval_crop": "resize"},
            r"are \[160, 300\] pixels a side.*160 x 160 pixels are too small for this detector",
        ),
        ({"eval.scales": ("a",)}, r"eval.scales = \('a',\) is not possible"),
    ],
)
def test_scales_that_a_network_cannot_see_are_refused(fields, message):
    config = base_config()
    config.task, config.model.head = "segmentation", "unet"
    config.data.update(train_crop="scale_jitter", eval_crop="letterbox")
    config.loss.update(label_smoothing=0.0, auxiliary=0.0)
    config.update_from_flattened_dict({"data.image_size": 64, **fields})
    with pytest.raises(ConfigError, match=message):
        check_config(config, make_mesh())
