"""Boxes and their classes: metrics of other implementations, the same numbers everywhere."""

import runpy
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax import Predictor
from imagenet_jax.config import base_config, load_config, validate
from imagenet_jax.devices import make_mesh, parallel
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.detection import METHODS
from imagenet_jax.models.detection.detections import Detections
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.tasks.box_meter import METRICS
from imagenet_jax.tasks.detection import Detection
from imagenet_jax.training import evaluate_split, make_program
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.training.program_checks import check_config

CLASSES = tuple("abc")
ROOT = Path(__file__).resolve().parents[2]
VARIANTS = runpy.run_path(str(ROOT / "configs/detect_coco.py"))["VARIANTS"]


@pytest.fixture
def config(loop_config):
    """`loop_config` with FCOS on 3 classes of noise."""
    loop_config.task = "detection"
    loop_config.model.update(head="fcos", fpn_strides=(2, 4), fpn_width=32, stem="cifar_half")
    loop_config.data.update(image_size=16, fake_classes=3, fake_eval_examples=37, max_objects=8)
    loop_config.data.update(eval_crop="resize", train_crop="resize")
    loop_config.eval.update(candidates=40, max_detections=20, score_threshold=0.0)
    loop_config.augment.pad = 0
    loop_config.optim.learning_rate = 0.002
    return loop_config


def losses_of(config, devices, steps=10):
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    split = task_split(config, train=True)
    program = make_program(make_task(config, split), mesh, num_examples=split.num_examples)
    step, state, losses = program.compile_train_step(), program.init_state(), []
    rows = parallel.local_rows(mesh, config.batch_size)
    for batch in split.train_batches(rows, 0, steps):
        state, sums = step(state, parallel.put_batch(batch, mesh))
        losses.append(
            [program.task.summarize([jax.device_get(sums)])[k] for k in program.task.train_metrics]
        )
    return np.array(losses)


@pytest.mark.exhaustive  # test_processes.py has two processes of four devices
@pytest.mark.slow
@pytest.mark.xdist_group("eight_devices")
@pytest.mark.parametrize("head", ["fcos", "retinanet", "detr"])
def test_devices_and_micro_batches_give_the_same_losses(config, head):
    config.model.update(head=head, bn_group_size=1)
    steps = 10
    if head == "detr":  # later a match may be another one by rounding
        config.model.fpn_strides, steps = (2,), 5
    alone = losses_of(config, 1, steps)
    assert alone[-1, 0] < alone[0, 0]
    for partitioner in ("jit", "shard_map"):
        config.partitioner = partitioner
        np.testing.assert_allclose(losses_of(config, 8, steps), alone, rtol=1e-4)
    config.accumulate = 2
    if head != "detr":  # whose dropout goes by the rows of a micro-batch
        np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)


@pytest.mark.xdist_group("eight_devices")
def test_an_evaluation_is_the_same_in_any_batches(config):
    results = []
    for devices, batch_size in ((1, 7), (8, 32), (1, 37)):
        config.eval.batch_size = batch_size
        mesh = make_mesh(config.sharding, jax.devices()[:devices])
        split = task_split(config, train=False)
        program = make_program(make_task(config, split), mesh, num_examples=40)
        step = program.compile_eval_step(split.num_examples)
        variables = program.init_state().eval_variables()
        results.append(evaluate_split(program, step, variables, split))
    assert repr(results[0]) == repr(results[1]) == repr(results[2])  # some are nan
    assert results[0]["num_examples"] == 37 and results[0]["detections"] == 37 * 20
    assert set(METRICS) <= results[0].keys()


@pytest.mark.slow
def test_a_run_resumes_by_bits_tells_what_it_found_and_becomes_another_detector(config, tmp_path):
    config.duration, config.checkpoint.every, config.checkpoint.keep = "4 steps", "2 steps", 5
    whole = train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    again = train(config, tmp_path / "run")
    assert again["step"] == 4 and whole["state_sha256"] == again["state_sha256"]
    assert repr(whole["eval"]) == repr(again["eval"]) and "map" in whole["eval"]
    files = {path.name for path in (tmp_path / "run/evaluation").iterdir()}
    assert files == {"per_class.csv", "most_wrong.png", "precision_recall.png"}
    predictor = Predictor.from_run(tmp_path / "run")
    photo = np.random.default_rng(0).integers(0, 256, (50, 90, 3)).astype(np.uint8)
    found = predictor(photo)
    assert len(found["objects"]) == 20 and found["size"] == [50, 90]
    for one in found["objects"]:
        left, top, right, bottom = one["box"]
        assert 0 <= left <= right <= 90 and 0 <= top <= bottom <= 50 and 0 < one["score"] < 1
        assert one["class_name"] == f"class {one['label']}"
    scores = [one["score"] for one in found["objects"]]
    assert scores == sorted(scores, reverse=True) and len(predictor(photo, top=3)["objects"]) == 3
    config.finetune.weights, config.data.fake_classes = str(tmp_path / "run"), 4
    start = starting_variables(make_program(make_task(config), make_mesh(), num_examples=40))
    head = start["params"]["head"]["classification_head"]
    assert "cls_logits" not in head and "conv.0" in head  # of other classes it is new


def test_an_image_and_its_boxes_are_mirrored_together():
    config = base_config()
    config.augment.update(flip=True, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    config.model.update(head="fcos", fpn_strides=(4,))
    task = Detection(config, CLASSES)
    random = np.random.default_rng(0)
    images, boxes = np.zeros((16, 32, 32, 3), np.uint8), np.zeros((16, 2, 4), np.float32)
    for image, box in zip(images, boxes, strict=True):
        left, top = random.integers(0, 20, 2)
        right, bottom = left + random.integers(3, 11), top + random.integers(3, 11)
        image[top:bottom, left:right], box[0] = 255, (left, top, right, bottom)
    batch = {
        name: field.filled(16)[:, :2] if field.shape else field.filled(16)
        for name, field in task.fields().items()
    }
    batch |= {
        "image": images,
        "boxes": boxes,
        "classes": np.tile([0, -1], (16, 1)),
        "index": np.arange(16),
        "epoch": np.zeros(16, np.int32),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    image, targets = task.inputs(batch, jax.random.key(0), jnp.zeros((), jnp.int32), train=True)
    for pixels, box in zip(
        np.asarray(image[..., 0]), np.asarray(targets["boxes"][:, 0]), strict=True
    ):
        rows, columns = np.nonzero(pixels)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    mirrored = (np.asarray(targets["boxes"][:, 0]) != boxes[:, 0]).any(1)
    assert 2 < mirrored.sum() < 14


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0)])
def test_what_is_found_in_other_views_is_moved_back(config, scales):
    """A network that sees one bright square tells the same box of either image; of one twice as
    large one of half the size."""
    config.eval.update(tta="mirror", score_threshold=0.5, scales=scales)
    check_config(config, make_mesh())
    config.model.fpn_strides = (4, 8)
    task = make_task(config)
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[0, 8, 4] = 1  # the place (4, 8) of the first map; its mirror image has it at 27

    def apply(x):
        there = x[:, ::4, ::4, :1] + x[:, ::4, 3::4, :1]
        fine = {"cls_logits": 20 * there - 10, "bbox_ctrness": 20 * there[..., :1] - 10}
        side = x.shape[1] // 4
        fine["bbox_regression"] = jnp.ones((1, side, side, 4))
        coarse = {name: jnp.full_like(part[:, ::2, ::2], -10.0) for name, part in fine.items()}
        coarse["bbox_regression"] = fine["bbox_regression"][:, ::2, ::2]
        fine["cls_logits"], coarse["cls_logits"] = (
            jnp.repeat(x["cls_logits"], 3, -1) for x in (fine, coarse)
        )
        return {
            name: jnp.concatenate(
                [x.reshape(1, -1, x.shape[-1]) for x in (fine[name], coarse[name])], 1
            )
            for name in fine
        }

    found = jax.jit(lambda x: task.predict(apply, x))(image)
    assert isinstance(found, Detections)
    there = np.asarray(found.scores[0]) > 0
    # At (4, 8) and, mirrored back, at 32 - 24 = (8, 8): squares of 8 pixels around these.
    boxes = {tuple(box) for box in np.asarray(found.boxes[0])[there].tolist()}
    expected = {(0.0, 4.0, 8.0, 12.0), (4.0, 4.0, 12.0, 12.0)}
    if len(scales) > 1:
        expected |= {(2.0, 6.0, 6.0, 10.0), (4.0, 6.0, 8.0, 10.0)}
    assert boxes == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("augment.mixup", 0.2, "augment.mixup"),
        ("augment.pad", 2, "augment.pad"),
        ("augment.erase", 0.5, "augment.erase"),
        ("data.policy", "randaugment", "data.policy"),
        ("data.sampling", "balanced", "data.sampling"),
        ("data.eval_crop", "center_crop", "'center_crop' leaves out a part of the image"),
        ("loss.label_smoothing", 0.2, "loss.label_smoothing"),
        ("eval.tta", "mirror_shift", "eval.tta = 'mirror_shift'"),
        (
            {"eval.tta": "mirror", "model.head": "detr", "model.fpn_strides": (32,)},
            None,
            "'detr' has no suppression, so that each object",
        ),
        ("model.head", "unet", r"model.head = 'unet'; expected retinanet"),
        ("model.head", "", r"model.head = ''; expected retinanet"),
    ],
)
def test_what_does_not_go_with_boxes_is_refused(config, field, value, message):
    config.update_from_flattened_dict(field if isinstance(field, dict) else {field: value})
    with pytest.raises(ConfigError, match=message):
        make_task(config).model()


@pytest.mark.parametrize(
    ("field", "value"), [("model.proposals", 9), ("eval.candidates", 9), ("data.max_objects", 9)]
)
def test_fields_of_detection_are_refused_for_other_tasks(field, value):
    config = base_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=rf"{field} = 9 is for config.task = 'detection' and"):
        validate(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_recipes_of_coco_are_valid(variant):
    config = load_config(f"detect_coco:{variant}")
    validate(config)
    config.data.update(name="fake", fake_classes=80)
    task = make_task(config)
    assert task.method.num_classes == 80 and task.method.map_sides(config.data.image_size)[-1] > 0


@pytest.mark.parametrize("head", METHODS)
def test_sums_of_all_detectors_become_metrics(config, head):
    """Each term and each count by its own name."""
    config.model.head, masks = head, METHODS[head].has_masks
    config.task = "instances" if masks else "detection"
    if head in ("yolox", "ssd", "ssdlite") or head.endswith("mobile"):
        config.model.update(fpn_strides=(), fpn_width=256)
    task = make_task(config)
    sums = {name: np.ones_like(value) for name, value in jax.device_get(task.zero_sums()).items()}
    found = task.summarize([sums, sums])
    counts = {"num_examples", "objects", "cut_off", "too_many"}
    assert counts | {"loss", *task.method.terms} == found.keys()
    assert all(found[name] == 2 for name in counts)
    assert all(found[name] == 1 for name in task.method.terms)
