import numpy as np
import pytest
from oracles import torchvision
from scipy.stats import ks_2samp, kstest

from imagenet_jax.data.images import boxes

WORD = 2**64


def splitmix64(state):
    """The next value of Steele, Lea and Flood's generator, in Python's integers."""
    state = (state + 0x9E3779B97F4A7C15) % WORD
    return state, finalized(state)


def finalized(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def drawn(count, seed=0):
    """Random numbers for the boxes of `count` examples."""
    return boxes.uniforms(seed, np.zeros(count, int), np.arange(count), 40)


def test_splitmix64_is_the_published_one():
    """Its first three values for the seed 1234567, as in Rosetta Code's task."""
    state, values = 1234567, []
    for _ in range(3):
        state, value = splitmix64(state)
        values.append(value)
    assert values == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("place", [(0, 0, 0), (5, 3, 1_281_166), (2**31 - 1, 2**31 - 1, 2)])
def test_uniforms_are_splitmix64_seeded_with_the_hash_of_seed_epoch_and_index(place):
    seed, epoch, index = place
    state = finalized((finalized((finalized(seed) + epoch) % WORD) + index) % WORD)
    expected = []
    for _ in range(5):
        state, value = splitmix64(state)
        expected.append((value >> 11) / 2**53)
    np.testing.assert_array_equal(
        boxes.uniforms(seed, np.array([epoch]), np.array([index]), 5), [expected]
    )


def test_uniforms_differ_by_seed_epoch_and_index_and_are_uniform():
    places = [(s, e, i) for s in range(9) for e in range(9) for i in range(40)]
    seeds, epochs, indices = np.array(places).T
    values = np.concatenate(
        [boxes.uniforms(s, epochs[seeds == s], indices[seeds == s], 4) for s in range(9)]
    )
    assert len(np.unique(values)) == values.size
    for column in values.T:
        assert kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize(
    ("area", "ratio"),
    [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.35, 0.4), (0.6, 0.9)), ((0.05, 0.5), (1.0, 1.0))],
)
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (100, 900)])
def test_random_boxes_are_distributed_as_torchvisions(area, ratio, shape):
    RandomResizedCrop = torchvision().transforms.RandomResizedCrop
    image = np.zeros((3, *shape), np.uint8)
    import torch

    torch.manual_seed(0)
    count = 3000
    image = torch.as_tensor(image)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(count)]
    )
    ours = boxes.random_resized_crop(np.tile(shape, (count, 1)), drawn(count), area, ratio)
    for mine, other in (
        (ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
        (ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
        (ours[:, 0], theirs[:, 0]),
        (ours[:, 1], theirs[:, 1]),
    ):
        assert ks_2samp(mine, other).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(10, 1000), (1000, 10), (1, 1), (7, 30), (30, 7), (20, 20)])
def test_where_no_box_fits_it_is_torchvisions_largest_in_the_middle(shape):
    area, ratio = (4.0, 5.0), (3 / 4, 4 / 3)  # larger than the image
    RandomResizedCrop = torchvision().transforms.RandomResizedCrop
    import torch

    theirs = RandomResizedCrop.get_params(torch.zeros(3, *shape), list(area), list(ratio))
    ours = boxes.random_resized_crop(np.array([shape]), drawn(1), area, ratio)
    assert ours[0].tolist() == list(theirs)


@pytest.mark.parametrize(
    ("area", "ratio"),
    [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.35, 0.4), (0.6, 0.9)), ((0.05, 0.5), (1.0, 1.0))],
)
@pytest.mark.parametrize("shape", [(300, 400), (400, 300)])
def test_random_boxes_keep_to_their_ranges_and_fill_them(area, ratio, shape):
    height, width = shape
    sizes = np.tile(shape, (500, 1))
    top, left, h, w = boxes.random_resized_crop(sizes, drawn(500), area, ratio).T
    assert top.min() >= 0 and left.min() >= 0
    assert (top + h).max() <= height and (left + w).max() <= width
    # A pixel more or less on each side is the rounding.
    share, pixel = h * w / (height * width), (h + w + 1) / (height * width)
    assert (share >= area[0] - pixel).all() and (share <= area[1] + pixel).all()
    assert ((w - 1) / (h + 1) <= ratio[1]).all() and ((w + 1) / (h - 1) >= ratio[0]).all()
    for values, (low, high) in ((share, area), (w / h, ratio)):
        assert values.min() <= low + 0.2 * (high - low) + 0.01
        assert values.max() >= high - 0.2 * (high - low) - 0.01


def test_the_boxes_of_several_images_are_those_of_each_alone():
    shape = np.array([(10, 1000), (300, 400), (50, 50)])
    uniform = drawn(3)
    together = boxes.random_resized_crop(shape, uniform, (0.08, 1.0), (3 / 4, 4 / 3))
    alone = [
        boxes.random_resized_crop(shape[i : i + 1], uniform[i : i + 1], (0.08, 1.0), (3 / 4, 4 / 3))
        for i in range(3)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_whole_is_the_image():
    assert boxes.whole(np.array([[3, 4], [5, 6]])).tolist() == [[0, 0, 3, 4], [0, 0, 5, 6]]
