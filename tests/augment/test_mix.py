import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from scipy.stats import beta, kstest

from imagenet_jax.augment.mix import Targets, cutmix_box, mix, symmetric_beta
from imagenet_jax.config import base_config, validate
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import losses
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.checks import validate_batch

COUNT = 400


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(COUNT, 6, 8, 3)).astype(np.float32)


@pytest.fixture
def batch():
    return {
        "mask": np.ones(COUNT, bool),
        "index": np.arange(COUNT, dtype=np.int32),
        "epoch": np.zeros(COUNT, np.int32),
    }


def mixed(images, batch, step=0, **fields):
    config = base_config().augment
    config.update(fields)
    image, weight = jax.jit(lambda i, b: mix(i, b, jax.random.key(3), step, config))(images, batch)
    targets = Targets.of_pairs(jnp.arange(COUNT), weight)
    return np.asarray(image), Targets(*map(np.asarray, targets))


def test_mixup_blends_neighbours_with_the_weight_of_their_labels(images, batch):
    image, targets = mixed(images, batch, mixup=0.8)
    other = images.reshape(-1, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    weight = targets.weight[:, None, None, None]
    np.testing.assert_allclose(image, weight * images + (1 - weight) * other, atol=1e-5)
    np.testing.assert_array_equal(targets.other, np.arange(COUNT) ^ 1)
    assert kstest(targets.weight[::2], beta(0.8, 0.8).cdf).pvalue > 1e-3


def test_cutmix_swaps_a_box_and_weighs_by_its_area(images, batch):
    image, targets = mixed(images, batch, cutmix=1.0)
    other = images.reshape(-1, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    own, partners = (image == images).all(-1), (image == other).all(-1)
    assert (own ^ partners).all()
    np.testing.assert_allclose(targets.weight, own.mean((1, 2)), atol=1e-6)
    for mask in partners:
        rows, columns = np.nonzero(mask)
        assert (
            mask.sum() == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1
            if len(rows)
            else True
        )
    assert len(np.unique(targets.weight)) > 10


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    keys = jax.random.split(jax.random.key(0), 50_000)
    shares = np.asarray(jax.vmap(lambda key: symmetric_beta(key, alpha))(keys), np.float64)
    assert np.abs((shares < 0.5).mean() - 0.5) < 0.01
    # The lower half: float32 cannot tell most of the upper one from 1.
    low = shares[shares < 0.5]
    assert kstest(low, lambda x: 2 * beta(alpha, alpha).cdf(x)).pvalue > 1e-3
    assert np.isclose(shares.std(), beta(alpha, alpha).std(), rtol=0.01)


def test_mixing_needs_no_loop(images, batch):
    """A GPU waits for its host at each."""
    config = base_config().augment
    config.mixup, config.cutmix = 0.2, 1.0
    text = str(jax.make_jaxpr(lambda i, b: mix(i, b, jax.random.key(3), 0, config))(images, batch))
    assert "while" not in text


def test_the_box_of_cutmix_is_timms():
    torchvision()
    mixup = pytest.importorskip("timm.data.mixup", reason="timm is not installed")
    different = []
    for seed in range(200):
        share, (height, width) = np.random.default_rng(seed).uniform(), (17, 24)
        np.random.seed(seed)
        theirs = mixup.rand_bbox((1, 3, height, width), share)
        np.random.seed(seed)
        row, column = np.random.randint(0, height), np.random.randint(0, width)
        place = jnp.array([(row + 0.5) / height, (column + 0.5) / width])
        box = cutmix_box(jnp.float32(share), place, (height, width))
        top, left, h, w = box.tolist()
        different.append(np.abs(np.subtract((top, top + h, left, left + w), theirs)).max())
    # Where a side is a whole number but for the rounding of float32, it is a pixel shorter.
    assert max(different) <= 1 and np.mean(different) < 0.03


def test_both_take_turns(images, batch):
    image, _ = mixed(images, batch, mixup=0.8, cutmix=1.0, switch_prob=0.25)
    other = images.reshape(-1, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    cut = ((image == images) | (image == other)).all((1, 2, 3))
    assert 60 < cut.sum() < 150


def test_a_share_of_the_pairs_is_mixed(images, batch):
    image, targets = mixed(images, batch, mixup=0.8, mix_prob=0.25)
    kept = (image == images).all((1, 2, 3))
    assert 240 < kept.sum() < 350 and (targets.weight[kept] == 1).all()


def test_a_batch_shares_one_ratio_that_changes_with_the_step(images, batch):
    weights = [mixed(images, batch, step, mixup=0.8, mix_per="batch")[1].weight for step in (0, 1)]
    assert len(np.unique(weights[0])) == len(np.unique(weights[1])) == 1
    assert weights[0][0] != weights[1][0]


def test_each_image_has_a_ratio_and_a_box_of_its_own(images, batch):
    """timm's mode "elem"; nothing of it is shared within a pair."""
    fields = {"mixup": 0.8, "cutmix": 1.0, "mix_per": "image", "mix_prob": 0.9}
    image, targets = mixed(images, batch, **fields)
    other = images.reshape(-1, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    cut = ((image == images) | (image == other)).all((1, 2, 3))
    weight = targets.weight[:, None, None, None]
    blend = weight * images + (1 - weight) * other
    np.testing.assert_allclose(image[~cut], blend[~cut], atol=1e-5)
    own = (image[cut] == images[cut]).all(-1).mean((1, 2))
    np.testing.assert_allclose(targets.weight[cut], own, atol=1e-6)
    whole = (targets.weight == 1) & (image == images).all((1, 2, 3))
    assert 0.04 < whole.mean() < 0.25 and 0.4 < cut.mean() < 0.65
    assert (cut[::2] != cut[1::2]).mean() > 0.3
    both = targets.weight[~cut & ~cut[np.arange(COUNT) ^ 1]].reshape(-1, 2)
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.3 and len(both) > 30
    rows = np.arange(COUNT).reshape(-1, 2)[::-1].reshape(-1)
    moved, _ = mixed(images[rows], {k: v[rows] for k, v in batch.items()}, **fields)
    np.testing.assert_allclose(moved, image[rows], atol=1e-6)
    batch["mask"][4] = False
    image, targets = mixed(images, batch, **fields)
    np.testing.assert_array_equal(image[4:6], images[4:6])
    assert (targets.weight[4:6] == 1).all()


def test_of_each_pair_one_image_is_made_as_in_timms_mode_half(batch):
    torchvision()
    timm = pytest.importorskip("timm.data.mixup", reason="timm is not installed")
    levels = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 8, 3), np.uint8)
    image, targets = mixed(levels.astype(np.float32), batch, mixup=0.8, mix_per="half")
    assert kstest(targets.weight, beta(0.8, 0.8).cdf).pvalue > 1e-3
    theirs = timm.FastCollateMixup(mode="half", num_classes=COUNT, label_smoothing=0.0)
    no_cut = np.zeros(COUNT // 2, bool)
    theirs._params_per_elem = lambda count: (targets.weight.copy(), no_cut)
    rows = [*range(0, COUNT, 2), *range(COUNT - 1, 0, -2)]  # it takes partners from the end
    pixels, soft = theirs([(levels[row].transpose(2, 0, 1), row) for row in rows])
    assert np.abs(image - pixels.numpy().transpose(0, 2, 3, 1)).max() <= 0.51
    found = losses.class_targets(Targets(*map(jnp.asarray, targets)), COUNT)
    np.testing.assert_allclose(found, soft.numpy(), atol=1e-6)


def test_the_network_gets_half_of_what_is_read(images, batch):
    batch["mask"][[4, 7]] = False
    image, targets = mixed(images, batch, cutmix=1.0, mix_per="half")
    np.testing.assert_array_equal(image[2:4], images[4:8:2])
    assert (targets.weight[2:4] == 1).all() and targets.label[:4].tolist() == [0, 2, 4, 6]
    config = base_config()
    config.augment.update(mixup=0.2, mix_per="half")
    assert Classification.of_size(config, 3).denominators(batch)["examples"] == COUNT // 2 - 1
    config.update(batch_size=96)
    config.model.bn_group_size = 24
    validate_batch(config, 2)
    with pytest.raises(ConfigError, match=r"of 24 images .* which 48 make .*bn_group_size = 12"):
        validate_batch(config, 4)


@pytest.mark.parametrize("mix_per", ["pair", "batch", "image", "half"])
def test_mixup_and_cutmix_have_half_of_a_batch_each(mix_per, images, batch):
    """As EfficientNetV2 and NFNets; what is cut is not folded."""
    fields = {"mixup": 0.8, "cutmix": 1.0, "switch_halves": True, "mixup_fold": True}
    image, targets = mixed(images, batch, **fields, mix_per=mix_per)
    own, other = images, images.reshape(-1, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    if mix_per == "half":
        own, other = images[::2], images[1::2]
    turns = np.arange(len(own)) // (len(image) // (COUNT // 2)) % 2 == 1
    cut = ((image == own) | (image == other)).all((1, 2, 3))
    np.testing.assert_array_equal(cut, turns)
    weight = targets.weight[:, None, None, None]
    blend = weight * own + (1 - weight) * other
    np.testing.assert_allclose(image[~cut], blend[~cut], atol=1e-5)
    kept = (image[cut] == own[cut]).all(-1).mean((1, 2))
    np.testing.assert_allclose(targets.weight[cut], kept, atol=1e-6)
    assert (targets.weight[~cut] >= 0.5).all()
    assert mix_per == "batch" or 0.02 < (targets.weight[cut] < 0.5).mean() < 0.5
    ratios = len(np.unique(targets.weight))
    assert ratios == 2 if mix_per == "batch" else ratios > 90


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mix_per": "half"}, r"mix_per = 'half' makes one image of two, .*cutmix = 0\.0; set"),
        ({"switch_halves": True, "mixup": 0.2}, r"cutmix = 0\.0; set both above 0, or switch_ha"),
        (
            {"switch_halves": True, "mixup": 0.2, "cutmix": 1.0, "switch_prob": 0.3},
            r"switch_halves = True leaves nothing to .*switch_prob = 0\.3; leave it at 0\.5",
        ),
    ],
)
def test_contradictions_are_refused(fields, message):
    config = base_config()
    config.augment.update(fields)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_folded_mixup_keeps_at_least_half(images, batch):
    fields = {"mixup": 0.5, "mix_per": "image"}
    free, folded = (
        mixed(images, batch, **fields, mixup_fold=fold)[1].weight for fold in (False, True)
    )
    np.testing.assert_allclose(folded, np.maximum(free, 1 - free), atol=1e-6)
    assert free.min() < 0.5


def test_pairs_are_mixed_by_their_numbers_not_their_place(images, batch):
    order = np.random.default_rng(0).permutation(COUNT // 2)
    rows = (2 * order[:, None] + np.arange(2)).reshape(-1)
    image, targets = mixed(images, batch, mixup=0.8, cutmix=1.0)
    moved, moved_targets = mixed(
        images[rows], {k: v[rows] for k, v in batch.items()}, mixup=0.8, cutmix=1.0
    )
    np.testing.assert_allclose(moved, image[rows], atol=1e-6)
    np.testing.assert_allclose(moved_targets.weight, targets.weight[rows], atol=1e-6)


def test_rows_that_do_not_count_are_not_mixed_in(images, batch):
    batch["mask"][4] = False
    image, targets = mixed(images, batch, mixup=0.8)
    np.testing.assert_array_equal(image[4:6], images[4:6])
    assert (targets.weight[4:6] == 1).all() and (targets.weight[:4] != 1).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_soft_target(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 5)).astype(np.float32)
    label, other = rng.integers(0, 5, (2, 8)).astype(np.int32)
    weight = rng.uniform(size=8).astype(np.float32)
    smooth = (1 - smoothing) * np.eye(5) + smoothing / 5
    target = weight[:, None] * smooth[label] + (1 - weight[:, None]) * smooth[other]
    exact = logits.astype(np.float64)
    expected = -(target * (exact - np.log(np.exp(exact).sum(1, keepdims=True)))).sum(1)
    loss = losses.mixed_cross_entropy(logits, Targets(label, other, weight), smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_dominant_label_has_most_of_the_weight():
    targets = Targets(np.array([1, 2]), np.array([3, 4]), np.array([0.7, 0.2]))
    assert targets.dominant().tolist() == [1, 4]
    assert Targets(np.array([1, 2])).dominant().tolist() == [1, 2]


def test_partners_of_several_labels_are_neighbours():
    labels = np.eye(4, dtype=np.uint8)
    targets = Targets.of_pairs(labels, np.array([0.7, 0.7, 0.2, 0.2]))
    np.testing.assert_array_equal(targets.other, labels[[1, 0, 3, 2]])
    np.testing.assert_array_equal(targets.dominant(), labels[[0, 1, 3, 2]])
    assert Targets.of_pairs(labels, None) == Targets(labels)


def test_a_device_must_get_whole_pairs():
    config = base_config()
    config.model.bn_group_size, config.batch_size, config.augment.mixup = 1, 24, 0.2
    validate_batch(config, 4)
    with pytest.raises(ConfigError, match=r"x pairs of images \(augment\.mixup"):
        validate_batch(config, 8)
    config.augment.update(cutmix=1.0, switch_halves=True)
    validate_batch(config, 3)
    with pytest.raises(ConfigError, match=r"x two pairs of images \(augment\.switch_halves"):
        validate_batch(config, 4)
