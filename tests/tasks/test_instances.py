"""Masks of things: metrics of another implementation, the same numbers everywhere."""

import json
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from test_box_meter import AsItIs, observed, perfect
from test_detection import losses_of

from imagenet_jax import Predictor
from imagenet_jax.data.sources.box_files import open_boxes
from imagenet_jax.data.sources.objects import make_objects
from imagenet_jax.devices import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.coco_predictions import write_coco
from imagenet_jax.inference.predict import predict_photos, write_maps
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.tasks.instances import MASK_METRICS, InstanceMeter
from imagenet_jax.training import evaluate_split, make_program
from imagenet_jax.training.loop import train


@pytest.fixture
def config(loop_config):
    """`loop_config` with Mask R-CNN on 3 classes of noise."""
    loop_config.task = "instances"
    loop_config.model.update(head="mask_rcnn", fpn_strides=(2, 4), fpn_width=32)
    loop_config.model.update(stem="cifar_half", roi_samples=16, proposals=20, roi_width=16)
    loop_config.data.update(image_size=16, fake_classes=3, fake_eval_examples=37, max_objects=8)
    loop_config.data.update(eval_crop="resize", train_crop="resize")
    loop_config.eval.update(candidates=40, max_detections=10, score_threshold=0.0)
    loop_config.augment.pad = 0
    loop_config.optim.learning_rate = 0.002
    return loop_config


class Ellipses:
    """Stands for a split whose objects fill ellipses in their boxes."""

    def __init__(self, rows):
        self.rows, self.encoded = rows, self

    def objects(self, index):
        there = self.rows["classes"][index] >= 0
        boxes = np.float64(self.rows["boxes"][index][there])
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        unit = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
        outlines = [(box[:2] + unit * (box[2:] - box[:2]),) for box in boxes]
        labels = self.rows["classes"][index][there]
        return make_objects(boxes, labels, (500, 500), outlines=outlines)


def metered(rows, masks):
    meter = InstanceMeter(tuple("abc"), AsItIs(), Ellipses(rows))
    meter.add({**rows, "predicted_masks": masks})
    return meter


def ellipse_mask():
    mask = np.zeros((28 * 8, 28 * 8), np.float32)
    cv2.ellipse(mask, (112, 112), (112, 112), 0, 0, 360, 1, -1)
    return cv2.resize(mask, (28, 28), interpolation=cv2.INTER_AREA)


def test_metrics_are_those_of_another_implementation():
    faster = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    rows = observed()
    shape = (*rows["predicted_scores"].shape, 28, 28)
    meter = metered(rows, np.broadcast_to(ellipse_mask(), shape))
    found = meter.metrics()
    truth, told = faster.COCO(), faster.COCO()

    def plain(value):
        return value.decode() if isinstance(value, bytes) else float(value)

    truth.dataset, told.dataset = (
        json.loads(json.dumps(x.dataset, default=plain))
        for x in (meter.mask_coco.cocoGt, meter.mask_coco.cocoDt)
    )
    truth.createIndex()
    told.createIndex()
    other = faster.COCOeval_faster(truth, told, "segm", print_function=lambda *_: None)
    other.run()
    mine = [found[name] for name in MASK_METRICS]
    np.testing.assert_allclose(mine, other.stats[:12], rtol=1e-9)
    assert 0.05 < found["mask_map"] != found["map"] < 0.6


def test_masks_have_a_precision_of_their_own():
    rows = perfect(observed())
    shape = (*rows["predicted_scores"].shape, 28, 28)
    right = metered(rows, np.broadcast_to(ellipse_mask(), shape)).metrics()
    assert right["map"] == pytest.approx(1) and right["mask_map50"] == pytest.approx(1)
    assert right["mask_map"] > 0.93  # 28 x 28 parts are not its pixels
    half = np.zeros(shape, np.float32)
    half[..., :10] = 1
    wrong = metered(rows, half).metrics()
    assert wrong["map"] == pytest.approx(1) and wrong["mask_map50"] < 0.05


def test_sizes_go_by_the_pixels_of_masks():
    """An object whose box is large and whose mask is small is a small one, found or not."""
    rows = perfect(observed())
    thin = np.zeros((*rows["predicted_scores"].shape, 28, 28), np.float32)
    thin[..., :2, :2] = 1
    meter = metered(rows, thin)
    told = meter.mask_coco.cocoDt.dataset["annotations"]
    assert all(row["area"] == coco_masks.area(row["segmentation"]) for row in told)
    assert np.mean([row["area"] for row in told]) < 400
    there = meter.mask_coco.cocoGt.dataset["annotations"]
    boxes = np.array([row["bbox"][2] * row["bbox"][3] for row in there])
    share = np.array([row["area"] for row in there]) / boxes
    assert np.median(share) == pytest.approx(np.pi / 4, abs=0.05)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.xdist_group("eight_devices")
def test_devices_and_micro_batches_give_the_same_losses(config):
    config.model.bn_group_size = 1
    alone = losses_of(config, 1)
    assert alone[-1, 0] < alone[0, 0] and alone.shape[1] == 8
    config.partitioner = "shard_map"
    np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)
    config.partitioner, config.accumulate = "jit", 2
    np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.xdist_group("eight_devices")
def test_a_run_resumes_by_bits_and_tells_masks(config, tmp_path):
    config.duration, config.checkpoint.every, config.checkpoint.keep = "4 steps", "2 steps", 5
    config.eval.nms_threshold = 1.0  # no box is left out for another
    whole = train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    again = train(config, tmp_path / "run")
    assert again["step"] == 4 and whole["state_sha256"] == again["state_sha256"]
    assert repr(whole["eval"]) == repr(again["eval"]) and set(MASK_METRICS) <= whole["eval"].keys()
    results = []
    predictor = Predictor.from_run(tmp_path / "run")
    for devices, batch_size in ((1, 7), (8, 32)):
        config.eval.batch_size = batch_size
        mesh = make_mesh(config.sharding, jax.devices()[:devices])
        split = task_split(config, train=False)
        program = make_program(make_task(config, split), mesh, num_examples=40)
        step = program.compile_eval_step(split.num_examples)
        variables = program.init_state().eval_variables()
        results.append(evaluate_split(program, step, variables, split))
    assert repr(results[0]) == repr(results[1])
    photo = np.random.default_rng(0).integers(0, 256, (50, 90, 3)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    result = predict_photos(predictor.trained, [str(tmp_path / "photo.png")])
    (found,) = write_maps(result, tmp_path / "maps", predictor.trained.task)["predictions"]
    write_coco(result, tuple("abc"), tmp_path / "found.json")
    again = open_boxes("coco", str(tmp_path / "found.json"), "found", ("boxes", "masks"))
    boxes = np.array([one["box"] for one in found["objects"]])
    count = int((boxes[:, 2:] > boxes[:, :2]).all(1).sum())  # a box of no area is no object
    assert again.class_names == tuple("abc") and len(again.objects(0).labels) == count > 3
    json.dumps(result)
    masks = [coco_masks.decode(one["mask"]) for one in found["objects"]]
    assert len(masks) == 10 and all(mask.shape == (50, 90) for mask in masks)
    numbers = np.array(Image.open(found["map"]))
    assert np.array_equal(numbers == 1, masks[0]) and np.array_equal(numbers > 0, np.any(masks, 0))


def test_heads_of_other_tasks_are_refused(config):
    for head in ("", "fcos", "unet"):
        config.model.head = head
        with pytest.raises(ConfigError, match=rf"model.head = '{head}'; expected mask_rcnn, mask"):
            make_task(config).model()
    config.task, config.model.head = "detection", "mask_rcnn"
    with pytest.raises(ConfigError, match=r"'detection' with .*'mask_rcnn'; expected retinanet"):
        make_task(config).model()


def test_a_mask_is_mirrored_with_its_box(config):
    config.augment.flip = True
    config.data.train_crop = "none"
    task = make_task(config)
    count = 16
    batch = {name: field.filled(count) for name, field in task.fields().items()}
    batch["boxes"][:, 0], batch["classes"][:, 0] = (2, 3, 8, 9), 1
    batch["masks"][:, 0, :, :28] = 255  # the left half
    batch |= {
        "image": np.zeros((count, 16, 16, 3), np.uint8),
        "index": np.arange(count),
        "epoch": np.zeros(count, np.int32),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    inputs, targets = task.inputs(batch, jax.random.key(0), jnp.zeros((), int), train=True)
    mirrored = np.asarray(targets["boxes"][:, 0, 0] != 2)
    assert 2 < mirrored.sum() < 14
    masks = np.asarray(targets["masks"][:, 0])
    assert (masks[mirrored, :, 28:] == 255).all() and not masks[mirrored, :, :28].any()
    assert np.array_equal(masks[~mirrored], np.asarray(batch["masks"][:, 0])[~mirrored])
    assert np.array_equal(inputs["masks"], targets["masks"])


@pytest.mark.slow
def test_the_step_asks_nothing_of_the_host_and_has_no_dynamic_shape(config):
    """Of training and of evaluation, before XLA compiles them."""
    split = task_split(config, train=True)
    task = make_task(config, split)
    program = make_program(task, make_mesh("data_parallel", jax.devices()[:1]), num_examples=40)
    variables = program.init_state().eval_variables()
    batch = jax.tree.map(jnp.asarray, next(iter(split.train_batches(np.arange(8), 0, 1))))

    def learn(variables, batch):
        inputs, targets = task.inputs(batch, jax.random.key(0), jnp.zeros((), int), train=True)
        how = {"train": True, "mutable": ["batch_stats"]}
        found = task.losses(lambda x: program.model.apply(variables, x, **how), inputs, targets)
        return sum(part.sum() for part in found.numerators.values())

    def look(variables, batch):
        inputs, _ = task.inputs(batch, None, None, train=False)
        return task.predict(lambda x: program.model.apply(variables, x, train=False), inputs)

    for run in (jax.value_and_grad(learn), look):
        text = jax.jit(run).lower(variables, batch).as_text()
        assert "callback" not in text and "tensor<?" not in text and "x?x" not in text
        assert "while" in text  # the suppression of boxes
