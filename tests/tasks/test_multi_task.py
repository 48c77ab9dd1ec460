"""Several tasks over one backbone: the sum of their losses, each as if it were alone."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_detection import losses_of

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.config import base_config
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.data import open_split
from imagenet_jax.data.sources import scenes
from imagenet_jax.devices import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.training import make_program
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.weights.head import head_paths

TASKS = ("detection:fcos", "segmentation:unet", "classification")


@pytest.fixture
def config(loop_config):
    """`loop_config` with three tasks on 3 classes of noise."""
    loop_config.task = "multi_task"
    loop_config.multi_task.tasks = TASKS
    loop_config.model.update(fpn_strides=(2, 4), fpn_width=32, stem="cifar_half")
    loop_config.data.update(image_size=16, fake_classes=3, fake_eval_examples=12, max_objects=8)
    loop_config.data.update(eval_crop="resize", train_crop="resize")
    loop_config.loss.update(label_smoothing=0.0, auxiliary=0.0)
    loop_config.eval.update(candidates=40, max_detections=20, score_threshold=0.0)
    loop_config.augment.update(pad=0, flip=True)
    return loop_config


def batch_and_task(config):
    split = task_split(config, train=True)
    batch = next(iter(split.train_batches(np.arange(8), 0, 1)))
    return jax.tree.map(jnp.asarray, batch), make_task(config, split)


def total(task, variables, batch):
    """The loss and its terms, each a sum of numerators over its denominator."""
    key, step = jax.random.key(3), jnp.zeros((), jnp.int32)
    inputs, targets = task.inputs(batch, key, step, train=True)
    model = task.model()

    def apply(x):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])

    found = task.losses(apply, inputs, targets)
    over = task.denominators(batch, key)
    parts = {
        name: float(part.sum() / over[task.terms()[name].over])
        for name, part in found.numerators.items()
    }
    return sum(task.terms()[name].weight * part for name, part in parts.items()), parts


def alone(config, name, head):
    config = config.copy_and_resolve_references()
    config.task, config.model.head, config.multi_task.tasks = name, head, ()
    return config


@pytest.mark.slow
def test_each_task_has_the_loss_that_it_has_alone(config):
    config.multi_task.weights = (0.5, 2, 1)
    batch, task = batch_and_task(config)
    shapes = variable_shapes(task.model(), 16)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(np.abs(random.normal(0.1, 0.1, leaf.shape))), shapes
    )
    whole, parts = total(task, variables, batch)
    expected = 0.0
    for (name, head), weight in zip(
        (text.partition(":")[::2] for text in TASKS), (0.5, 2, 1), strict=True
    ):
        own_batch, own_task = batch_and_task(alone(config, name, head))
        assert np.array_equal(own_batch["image"], batch["image"])
        own = {}
        for collection, tree in variables.items():
            body, rest = tree["backbone"], tree.get(name, {})
            if name == "detection":
                own[collection] = {**rest, "backbone": {**rest.get("backbone", {}), "body": body}}
            elif name == "segmentation":
                own[collection] = {**rest, "backbone": body}
            else:
                own[collection] = {**body, **({"fc": rest["classifier"]} if rest else {})}
        loss, own_parts = total(own_task, own, own_batch)
        for term, value in own_parts.items():
            assert parts[f"{name}/{term}"] == pytest.approx(value, rel=1e-4)
        expected += weight * loss
    assert whole == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_second_head_of_one_task_is_no_other_tasks(config):
    """FCN's auxiliary logits are of pixels."""
    config.multi_task.tasks, config.loss.auxiliary = ("segmentation:fcn", "multilabel"), 0.5
    batch, task = batch_and_task(config)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = task.model().init(keys, batch["image"] / 255, train=True)
    variables = {name: variables[name] for name in ("params", "batch_stats")}

    key, step = jax.random.key(3), jnp.zeros((), jnp.int32)
    inputs, targets = task.inputs(batch, key, step, train=True)

    def apply(x):
        collections = ["batch_stats", "auxiliary"]
        how = {"train": True, "mutable": collections, "rngs": {"dropout": jax.random.key(1)}}
        return task.model().apply(variables, x, **how)

    found = task.losses(apply, inputs, targets).numerators
    assert found.keys() == {"segmentation/loss", "segmentation/auxiliary", "multilabel/loss"}


def test_folds_and_heads_of_several_tasks(config):
    config.data.update(folds=4, fold=1)
    train_part, held_out = (task_split(config, train=train) for train in (True, False))
    assert len(train_part.source) == 3 * len(held_out.source)
    task = make_task(config, train_part)
    paths = head_paths(task.model(), 16)
    assert {path[0] for path in paths} == {"detection", "segmentation", "classification"}


def test_learned_weights_are_those_of_the_paper(config):
    config.multi_task.tasks, config.multi_task.learned = TASKS[:2], True
    batch, task = batch_and_task(config)
    variables = task.model().init(jax.random.key(0), batch["image"] / 255, train=False)
    _, plain = total(task, variables, batch)
    params = dict(variables["params"])
    params |= {
        "log_variance_detection": jnp.array(0.7),
        "log_variance_segmentation": jnp.array(-1.0),
    }
    loss, parts = total(task, {**variables, "params": params}, batch)
    expected = (0.7 - 1.0) / 2
    for name, value in plain.items():
        if name == "uncertainty":
            assert value == 0
            continue
        expected += np.exp(-0.7 if name.startswith("detection") else 1.0) * value
    assert loss == pytest.approx(expected, rel=1e-5)
    assert parts["uncertainty"] == pytest.approx(-0.15)


@pytest.mark.slow
@pytest.mark.xdist_group("eight_devices")
def test_devices_give_the_same_losses_and_weights_are_learned(config):
    config.multi_task.learned, config.model.bn_group_size = True, 1
    config.optim.learning_rate = 0.01
    one = losses_of(config, 1)
    np.testing.assert_allclose(losses_of(config, 8), one, rtol=1e-3)
    assert one[-1, 0] < one[0, 0]
    assert (one[0, 1:4] == 1).all() and (one[-1, 1:4] != 1).all()


@pytest.mark.slow
def test_a_run_resumes_by_bits_tells_all_and_starts_from_a_classifier(config, tmp_path):
    config.duration, config.checkpoint.every, config.checkpoint.keep = "4 steps", "2 steps", 5
    whole = train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    again = train(config, tmp_path / "run")
    assert whole["state_sha256"] == again["state_sha256"]
    found = whole["eval"]
    best = [found["detection_map"], found["segmentation_miou"], found["classification_top1"]]
    assert found["score"] == pytest.approx(np.mean(best))
    folders = {path.name for path in (tmp_path / "run/evaluation").iterdir()}
    assert folders == {"detection", "segmentation", "classification"}
    photo = np.random.default_rng(0).integers(0, 256, (50, 90, 3)).astype(np.uint8)
    answer = Predictor.from_run(tmp_path / "run")(photo)
    assert len(answer["detection"]["objects"]) == 20 and "segmentation" in answer["segmentation"]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    files = [f"--coco={tmp_path}/found.json", f"--maps={tmp_path}/maps"]
    assert main(["predict", f"--workdir={tmp_path}/run", f"{tmp_path}/photo.png", *files]) == 0
    written = json.loads((tmp_path / "found.json").read_text())
    boxes = [one["box"][:2] for one in answer["detection"]["objects"]]
    assert [one["bbox"][:2] for one in written["annotations"]] == boxes
    assert Image.open(tmp_path / "maps/photo.png").size == (90, 50)
    other = alone(config, "classification", "")
    for field in ("model.fpn_strides", "model.fpn_width", "data.max_objects"):
        other.update_from_flattened_dict({field: SCHEMA[field].default})
    for field in ("candidates", "max_detections", "score_threshold"):
        other.eval[field] = SCHEMA[f"eval.{field}"].default
    other.data.fake_classes = 5
    train(other, tmp_path / "classifier")
    config.finetune.weights = str(tmp_path / "classifier")
    start = starting_variables(make_program(make_task(config), make_mesh(), num_examples=40))
    assert list(start["params"]) == ["backbone"]


def test_scenes_are_read_for_two_tasks_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "_COUNTS", {"train": 4, "test": 2})
    config = base_config()
    config.task, config.multi_task.tasks = "multi_task", TASKS[:2]
    config.data.update(name="scenes", dir=str(tmp_path), eval_split="test", image_size=128)
    config.data.update(train_crop="none", eval_crop="none", max_objects=9)
    split = task_split(config, train=True)
    task = make_task(config, split)
    names = {name: own.class_names for name, own in task.tasks.items()}
    assert names["detection"] == tuple("0123456789")
    assert names["segmentation"] == ("background", *names["detection"])
    (batch,) = split.eval_batches(np.arange(4), 4)
    both = [open_split(config, True, reads) for reads in (("boxes",), ("segmentation",))]
    for one in both:
        (own,) = one.eval_batches(np.arange(4), 4)
        for name, array in own.items():
            assert np.array_equal(array, batch[name])
    assert {"boxes", "segmentation"} <= set(batch)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("multi_task.tasks", (), r"names fewer than two tasks"),
        ("multi_task.tasks", ("detection:fcos",), r"names fewer than two tasks"),
        ("multi_task.tasks", ("detection:fcos", "x"), r"has 'x'; expected each of classification"),
        ("multi_task.tasks", ("detection:fcos",) * 2, r"has 'detection:fcos'; expected"),
        ("multi_task.tasks", ("detection", "classification"), r"model.head = ''; expected retina"),
        ("multi_task.weights", (1.0,), r"has 1 numbers for 3 tasks"),
        ("model.head", "fcos", r"model.head = 'fcos': config.multi_task.tasks has the heads"),
        ("augment.mixup", 0.2, r"does not go with augment.mixup"),
    ],
)
def test_what_does_not_go_together_is_refused(config, field, value, message):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        make_task(config).model()
