import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from scipy.stats import ks_2samp

from imagenet_jax import augment
from imagenet_jax.augment import geometry
from imagenet_jax.config import base_config

AREA, RATIO = (0.02, 0.33), (0.3, 3.3)


def boxes(count, shape, area=AREA, ratio=RATIO):
    draws = jax.random.uniform(jax.random.key(0), (count, 4, 10))
    return np.asarray(jax.vmap(lambda d: geometry.erased_box(d, shape, area, ratio))(draws))


@pytest.mark.parametrize("shape", [(32, 32), (60, 24)])
def test_erased_boxes_are_distributed_as_torchvisions(shape):
    erasing = torchvision().transforms.RandomErasing
    import torch

    torch.manual_seed(0)
    image = torch.zeros(3, *shape)
    theirs = np.array([erasing.get_params(image, AREA, RATIO, [0.0])[:4] for _ in range(3000)])
    ours = boxes(3000, shape)
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3


def test_erased_boxes_keep_to_their_ranges():
    top, left, height, width = boxes(2000, (40, 50)).T
    assert (height > 0).all() and top.min() == left.min() == 0
    assert (top + height <= 40).all() and (left + width <= 50).all()
    share = height * width / 2000
    assert 0.01 < share.min() < 0.04 and 0.3 < share.max() < 0.36


def test_nothing_is_erased_where_no_box_fits():
    assert not boxes(10, (10, 10), area=(0.9, 1.0), ratio=(5.0, 6.0)).any()


@pytest.mark.parametrize("mode", ["zero", "color", "pixel"])
def test_erasing_covers_one_box_of_a_share_of_the_images(mode):
    config = base_config().augment
    config.erase, config.erase_mode = 0.25, mode
    images = np.random.default_rng(0).normal(5, 1, (200, 30, 30, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 200)
    out = np.asarray(geometry.random_erasing(jnp.asarray(images), keys, config))
    covered = (out != images).any(-1)
    assert 30 < covered.any((1, 2)).sum() < 70
    for mask in covered:
        rows, columns = np.nonzero(mask)
        if len(rows):
            box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all() and mask.sum() == box.size
    cover = out[covered]
    if mode == "zero":
        assert not cover.any()
        return
    if mode == "color":
        boxes = [np.unique(image[mask], axis=0) for image, mask in zip(out, covered, strict=True)]
        assert {len(colors) for colors in boxes} == {0, 1}
        cover = np.concatenate(boxes)
    tolerance = {"color": 0.25, "pixel": 0.05}[mode]
    assert abs(cover.mean()) < tolerance and abs(cover.std() - 1) < tolerance


def test_several_boxes_share_the_area_as_timms():
    torchvision()
    erasing = pytest.importorskip("timm.data.random_erasing", reason="timm is not installed")
    import random

    import torch

    random.seed(0)
    ratio = (0.3, 1 / 0.3)
    timms = erasing.RandomErasing(1.0, 0.1, 0.4, ratio[0], ratio[1], max_count=3, device="cpu")
    theirs = [(timms(torch.ones(1, 40, 30)) == 0).float().mean().item() for _ in range(600)]
    config = base_config().augment
    config.update(erase=1.0, erase_area=(0.1, 0.4), erase_ratio=ratio, erase_count=3)
    keys, ones = jax.random.split(jax.random.key(0), 600), np.ones((600, 40, 30, 1), np.float32)
    erase = jax.jit(lambda ones, keys: geometry.random_erasing(ones, keys, config))
    ours = np.asarray(erase(ones, keys)) == 0
    assert ks_2samp(ours.mean((1, 2, 3)), theirs).pvalue > 1e-2
    config.erase_mode = "color"
    colors = np.asarray(erase(ones[:40], keys[:40]))
    assert {len(np.unique(image)) - 1 for image in colors} == {1, 2, 3}


def test_the_same_lines_are_left_out_of_a_whole_batch():
    image = np.random.default_rng(0).normal(size=(3, 41, 20, 2)).astype(np.float32)
    out = np.asarray(geometry.drop_lines(jnp.asarray(image), jax.random.key(0), 0.15))
    assert out.shape == (3, 34, 17, 2)  # int(0.85 * 41), int(0.85 * 20)
    rows = [r for r in range(41) if np.isin(image[0, r, :, 0], out[0, :, :, 0]).sum() == 17]
    columns = [c for c in range(20) if np.isin(image[0, :, c, 0], out[0, :, :, 0]).sum() == 34]
    assert len(rows) == 34 and len(columns) == 17
    np.testing.assert_array_equal(out, image[:, rows][:, :, columns])
    other = np.asarray(geometry.drop_lines(jnp.asarray(image), jax.random.key(1), 0.15))
    assert not np.array_equal(out, other)


def test_inside_is_the_box():
    mask = np.asarray(geometry.inside(jnp.array([1, 2, 3, 4]), (6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_images_are_turned_as_numpy_turns_them():
    image = np.random.default_rng(0).normal(size=(8, 5, 5, 3)).astype(np.float32)
    found = augment.turned(jnp.asarray(image), jnp.arange(8))
    for turn, (one, before) in enumerate(zip(found, image, strict=True)):
        before = before[:, ::-1] if turn >= 4 else before
        np.testing.assert_array_equal(one, np.rot90(before, turn % 4))
    batch = {"index": jnp.arange(400), "epoch": jnp.zeros(400, int)}
    turns = np.asarray(augment.train_turns(batch, jax.random.key(0), 8))
    assert np.bincount(turns, minlength=8).min() > 30
    again = augment.train_turns(
        {"index": jnp.array([7]), "epoch": jnp.array([0])}, jax.random.key(0), 8
    )
    assert again[0] == turns[7]
