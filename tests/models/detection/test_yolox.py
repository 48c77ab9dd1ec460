"""YOLOX: published counts, SimOTA one object after another, its own files; PANet's pyramid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_detectors import objects

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.models.detection import detection_method
from imagenet_jax.models.detection.yolox import assigned
from imagenet_jax.weights.detectors import load_detector
from imagenet_jax.weights.torch_layout import export_arrays

SIZE, CLASSES = 96, 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params", "million", "size", "gflops"),
    # Of its code, where it was counted; and of its README.
    [
        ("nano", 912_159, 0.91, 416, 1.08),
        ("tiny", 5_055_855, 5.06, 416, 6.45),
        ("s", 8_968_255, 9.0, 640, 26.8),
        ("m", 25_326_495, 25.3, 640, 73.8),
    ],
)
def test_counts_are_the_published_ones(name, params, million, size, gflops):
    model = create_detector(f"cspdarknet_{name}", "yolox", num_classes=80)
    shapes = variable_shapes(model, size)
    assert count_params(shapes) == params
    assert params / 1e6 == pytest.approx(million, abs=0.06)
    # Which counts norms and functions too.
    assert 2 * count_macs(model, size, shapes) / 1e9 == pytest.approx(gflops, rel=0.04)


def outputs(seed=0, images=2):
    """Outputs near the objects, so that many places want one."""
    method = detection_method("yolox", CLASSES)
    count = sum(map(len, method.anchors(SIZE)))
    random = np.random.default_rng(seed)
    return method, {
        "cls_logits": random.normal(-1, 1.5, (images, count, CLASSES)).astype(np.float32),
        "bbox_regression": random.normal(0.5, 0.8, (images, count, 4)).astype(np.float32),
        "objectness": random.normal(-1, 1.5, (images, count, 1)).astype(np.float32),
    }


def iou_of(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)


def simota(found, chance, boxes, classes, anchors):
    """YOLOX's get_assignments, one object after another."""
    stride, centres = anchors[:, 2] - anchors[:, 0], (anchors[:, :2] + anchors[:, 2:]) / 2
    near = np.array([np.abs((b[:2] + b[2:]) / 2 - centres).max(1) < 1.5 * stride for b in boxes])
    may = np.flatnonzero(near.any(0))
    iou = np.array([[iou_of(b, found[a]) for a in may] for b in boxes])
    cost = np.empty_like(iou)
    for row, label in enumerate(classes):
        wanted = np.eye(CLASSES)[label]
        entropy = -(wanted * np.log(chance[may]) + (1 - wanted) * np.log(1 - chance[may]))
        cost[row] = entropy.sum(1) - 3 * np.log(iou[row] + 1e-8) + 1e6 * ~near[row, may]
    takes = [[] for _ in may]
    for row in range(len(boxes)):
        count = max(1, int(np.sort(iou[row])[::-1][:10].sum()))
        for place in np.argsort(cost[row])[:count]:
            takes[place].append(row)
    which = np.full(len(anchors), -1)
    for place, rows in enumerate(takes):
        if rows:
            which[may[place]] = rows[0] if len(rows) == 1 else cost[:, place].argmin()
    return which


def test_places_are_assigned_as_one_object_after_another_would_be():
    shared = 0
    for seed in range(4):
        method, out = outputs(seed)
        anchors = np.concatenate(method.anchors(SIZE))
        boxes, classes = objects((7, 2), 9, SIZE, CLASSES)
        boxes[0, 1] = boxes[0, 0] + 3  # of two that overlap the cheaper has a place
        found = np.asarray(method._boxes(out["bbox_regression"], anchors))
        which, iou = jax.jit(functools.partial(assigned, anchors=anchors))(
            found, out["cls_logits"], out["objectness"][..., 0], boxes, classes
        )
        sigmoid = 1 / (1 + np.exp(-np.float64(out["cls_logits"])))
        chance = np.sqrt(sigmoid / (1 + np.exp(-np.float64(out["objectness"]))))
        for row in range(2):
            there = classes[row] >= 0
            mine = simota(found[row], chance[row], boxes[row][there], classes[row][there], anchors)
            assert np.array_equal(which[row], mine)
            for place in np.flatnonzero(mine >= 0):
                overlap = iou_of(found[row, place], boxes[row, mine[place]])
                assert iou[row, place] == pytest.approx(overlap, abs=1e-5)
            shared += (np.bincount(mine[mine >= 0]) > 1).sum()
    assert shared > 5  # objects with several places


def test_the_loss_of_images_without_objects_is_that_of_nothing_there():
    method, out = outputs()
    boxes, classes = objects((0, 3), 4, SIZE, CLASSES)
    parts = jax.jit(method.losses, static_argnums=4)(out, boxes, classes, None, SIZE)
    assert parts["loss_iou"][0] == parts["loss_cls"][0] == 0 < parts["loss_obj"][0]
    over = method.denominators(None, classes, jnp.ones(2, bool))
    assert over == {"all_objects": 3}
    padded = np.pad(classes, [(0, 0), (0, 3)], constant_values=-1)
    more = method.losses(out, np.pad(boxes, [(0, 0), (0, 3), (0, 0)]), padded, None, SIZE)
    for name, part in parts.items():
        np.testing.assert_allclose(part, more[name], rtol=1e-5)


def test_each_place_tells_its_best_class():
    method, out = outputs(1, images=1)
    choice = method.choice.__class__(score=0.2, iou=1.0, candidates=1000, most=300)
    found = jax.jit(method.detections, static_argnums=(1, 2))(out, SIZE, choice)
    scores = 1 / (1 + np.exp(-out["cls_logits"])) / (1 + np.exp(-out["objectness"]))
    best = np.sort(scores.max(-1)[0])[::-1]
    count = int((best > 0.2).sum())
    assert int((found.scores[0] > 0).sum()) == count > 20
    np.testing.assert_allclose(found.scores[0, :count], best[:count], rtol=1e-5)
    assert (np.asarray(found.boxes) >= 0).all() and (np.asarray(found.boxes) <= SIZE).all()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_its_own_files_are_read_for_rgb(tmp_path):
    torch = pytest.importorskip("torch")
    model = create_detector("cspdarknet_nano", "yolox", num_classes=80)
    shapes = variable_shapes(model, 64)
    random = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: random.normal(0.5 * (leaf.ndim == 1), 0.3, leaf.shape), shapes
    )
    arrays["batch_stats"] = jax.tree.map(np.abs, arrays["batch_stats"])
    state = {
        name.replace("backbone.body.", "backbone.backbone."): torch.tensor(np.float32(array))
        for name, array in export_arrays(arrays).items()
    }
    torch.save({"model": state}, tmp_path / "yolox_nano.pth")
    found = load_detector(tmp_path / "yolox_nano.pth", model.clone(num_classes=3))
    assert found.model.num_classes == 80 and found.class_names[0] == "person"
    image = random.normal(size=(1, 64, 64, 3)).astype(np.float32)
    run = jax.jit(functools.partial(model.apply, train=False))
    theirs, mine = run(arrays, image[..., ::-1]), run(found.variables, image)
    other = run(arrays, image)
    for name, array in theirs.items():
        scale = np.abs(array).max()
        assert np.abs(mine[name] - array).max() < 1e-3 * scale
        assert np.abs(other[name] - array).max() > 0.01 * scale


def test_other_backbones_and_what_is_refused():
    model = create_detector("resnet18", "yolox", num_classes=3, features=32)
    shapes = variable_shapes(model, 64)
    assert count_params(shapes) > 11e6  # ResNet-18's
    for options, message in (
        ({"features": 32}, r"fpn_width = 32: yolox has 64 channels on this backbone"),
        ({"strides": (8, 16)}, r"fpn_strides = \(8, 16\): yolox has three maps"),
        ({"method": {"fpn_bottom_up": True}}, r"fpn_bottom_up = True: yolox has no such option"),
        ({"method": {"depthwise": True}}, r"depthwise = True: yolox has no such option"),
    ):
        with pytest.raises(ConfigError, match=message):
            create_detector("cspdarknet_nano", "yolox", num_classes=3, **options)


@pytest.mark.slow
def test_a_pyramid_that_goes_back_to_coarse_maps():
    """PANet: one more convolution down and one for each map but the finest, which is the same."""
    how = {"num_classes": 3, "features": 32}
    plain = create_detector("resnet18", "fcos", **how)
    panet = create_detector("resnet18", "fcos", method={"fpn_bottom_up": True}, **how)
    shapes = [variable_shapes(model, SIZE) for model in (plain, panet)]
    assert count_params(shapes[1]) - count_params(shapes[0]) == 4 * (9 * 32 * 32 + 32)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(np.abs(random.normal(0, 0.1, leaf.shape))), shapes[1]
    )
    image = random.normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
    maps = [
        jax.jit(lambda v, x, m=m: m.apply(v, x, method=lambda m, x: m.backbone(x, False)))(
            variables, image
        )
        for m in (plain, panet)
    ]
    same = [np.allclose(one, other) for one, other in zip(*maps, strict=True)]
    assert same == [True] + [False] * (len(same) - 1)
