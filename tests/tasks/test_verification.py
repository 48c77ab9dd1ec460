"""Verification and retrieval: against scikit-learn and computations by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from imagenet_jax.data import open_split
from imagenet_jax.errors import DataError
from imagenet_jax.tasks import make_task
from imagenet_jax.tasks.embedding_meter import EmbeddingMeter
from imagenet_jax.tasks.pair_files import FilePair, find_pairs, read_pairs
from imagenet_jax.tasks.retrieval import retrieval
from imagenet_jax.tasks.verification import (
    PairList,
    Verification,
    best_threshold,
    cosine_distances,
    make_pairs,
)
from imagenet_jax.training.checks import check_source


def embedded(count=60, classes=6, dims=4, noise=0.5, seed=0):
    """Embeddings around a direction for each class, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows = rng.normal(size=(classes, dims))[labels] + noise * rng.normal(size=(count, dims))
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True)), labels


def verified(seed=0, noise=0.5):
    embedding, labels = embedded(seed=seed, noise=noise)
    pairs = make_pairs(labels, 400)
    return Verification(cosine_distances(embedding, pairs), pairs)


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_scikit_learns(seed):
    found = verified(seed)
    same, distances = found.pairs.same, found.distances
    metrics = found.metrics()
    assert metrics["num_pairs"] == 400 and same.sum() == 200
    assert metrics["auc"] == pytest.approx(roc_auc_score(same, -distances))
    far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
    assert metrics["tar_at_far_1e3"] == tar[far <= 1e-3].max()
    rate, limit = found.at(0.1)
    assert (distances[~same] <= limit).mean() <= 0.1
    assert (distances[same] <= limit).mean() == rate == tar[far <= 0.1].max()
    # As many refused as accepted, to one pair of the 200.
    places = np.abs(far - (1 - tar)).argmin()
    assert metrics["eer"] == pytest.approx((far[places] + 1 - tar[places]) / 2, abs=1 / 200)


def test_each_fold_has_the_threshold_of_the_others():
    found = verified()
    accuracies = []
    for fold in range(10):
        mine = found.pairs.fold == fold
        assert (mine.sum(), found.pairs.same[mine].sum()) == (40, 20)
        rest, same = found.distances[~mine], found.pairs.same[~mine]
        tried = np.unique(rest)
        limits = [-1, *((tried[1:] + tried[:-1]) / 2), 3]
        right = [((rest <= limit) == same).mean() for limit in limits]
        limit = limits[int(np.argmax(right))]
        accuracies.append(((found.distances[mine] <= limit) == found.pairs.same[mine]).mean())
    assert found.fold_accuracies.tolist() == accuracies
    metrics = found.metrics()
    assert metrics["accuracy"] == pytest.approx(np.mean(accuracies))
    assert metrics["accuracy_std"] == pytest.approx(np.std(accuracies))
    assert 0.6 < metrics["accuracy"] < 1


@pytest.mark.parametrize(
    ("same", "other", "threshold", "right"),
    [
        ([0.1, 0.2], [0.6, 0.9], 0.4, 4),
        ([0.1, 0.7], [0.6, 0.9], 0.35, 3),
        ([0.5, 0.5], [0.5, 0.8], 0.65, 3),  # equal ones are told alike
        ([0.8, 0.9], [0.1, 0.2, 0.3], 0.1, 3),  # below which nothing is accepted
        ([0.1, 0.2], [0.2], 0.15, 2),
    ],
)
def test_the_best_threshold_by_hand(same, other, threshold, right):
    distances = np.array([*same, *other])
    kinds = np.array([True] * len(same) + [False] * len(other))
    found = best_threshold(distances, kinds)
    assert found == pytest.approx(threshold, abs=1e-5)
    assert ((distances <= found) == kinds).sum() == right


def test_perfect_and_useless_embeddings():
    pairs = make_pairs(np.arange(40) % 2, 100)
    perfect = Verification(np.where(pairs.same, 0.1, 0.8), pairs).metrics()
    assert (perfect["accuracy"], perfect["auc"], perfect["eer"]) == (1, 1, 0)
    assert (perfect["tar_at_far_1e3"], perfect["threshold"]) == (1, pytest.approx(0.45))
    nothing = Verification(np.full(100, 0.5), pairs).metrics()
    assert nothing["accuracy"] == nothing["auc"] == nothing["eer"] == 0.5
    assert nothing["tar_at_far_1e3"] == 0


def test_what_is_no_number_is_farthest():
    embedding, labels = embedded()
    embedding[3] = np.nan
    pairs = make_pairs(labels, 400)
    distances = cosine_distances(embedding, pairs)
    mine = (pairs.first == 3) | (pairs.second == 3)
    assert mine.any() and (distances[mine] == 4).all() and (distances[~mine] <= 2).all()
    assert np.isfinite(list(Verification(distances, pairs).metrics().values())).all()
    assert np.isfinite(list(retrieval(embedding, labels).values())).all()


@pytest.mark.parametrize(
    ("count", "classes", "most"), [(60, 6, 6000), (60, 6, 40), (3000, 100, 500)]
)
def test_pairs_are_balanced_different_and_the_same_each_time(count, classes, most):
    labels = np.random.default_rng(1).permutation(np.arange(count) % classes)
    found, again = make_pairs(labels, most), make_pairs(labels, most)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    possible = classes * (count // classes) * (count // classes - 1) // 2
    half = min(most // 2, possible) // 10 * 10
    assert len(found.same) == 2 * half and found.same.sum() == half
    np.testing.assert_array_equal(labels[found.first] == labels[found.second], found.same)
    ends = np.sort(np.stack([found.first, found.second]), 0)
    assert (ends[0] < ends[1]).all() and len(np.unique(ends, axis=1).T) == 2 * half
    for fold in range(10):
        assert found.same[found.fold == fold].tolist().count(True) == half // 10
    assert most < 100 or len(np.unique(ends)) > 0.25 * count


@pytest.mark.parametrize("kind", ["many", "one_pair_each"])
def test_pairs_of_many_images_are_drawn_without_all_of_them(kind, monkeypatch):
    """50,000 images make a thousand million pairs."""
    labels = np.arange(50_000) // (2 if kind == "one_pair_each" else 500)
    found = make_pairs(labels, 2000)
    assert len(found.same) == 2000 and found.same.sum() == 1000
    np.testing.assert_array_equal(labels[found.first] == labels[found.second], found.same)
    ends = np.sort(np.stack([found.first, found.second]), 0)
    assert (ends[0] < ends[1]).all() and len(np.unique(ends, axis=1).T) == 2000


@pytest.mark.parametrize("labels", [np.arange(30), np.zeros(30, int), np.arange(6) // 3])
def test_too_few_pairs_are_said(labels):
    with pytest.raises(DataError, match="needs 10 pairs of images of one class and as many of two"):
        make_pairs(labels, 100)


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_that_of_one_query_at_a_time(seed):
    embedding, labels = embedded(50, 7, seed=seed)
    labels[-1] = 99  # alone
    first, fifth, precision = [], [], []
    for query in range(49):
        near = np.float64(embedding) @ np.float64(embedding[query])
        order = [k for k in np.argsort(-near) if k != query]
        right = labels[order] == labels[query]
        count = right.sum()
        first.append(right[0])
        fifth.append(right[:5].any())
        found = right[:count]
        shares = np.cumsum(found) / np.arange(1, count + 1)
        precision.append((shares * found).sum() / count)
        if found.all():
            others = np.delete(near, query)
            exact = average_precision_score(np.delete(labels, query) == labels[query], others)
            assert precision[-1] == pytest.approx(exact)
    assert retrieval(embedding, labels) == {
        "recall_at_1": pytest.approx(np.mean(first)),
        "recall_at_5": pytest.approx(np.mean(fifth)),
        "map_at_r": pytest.approx(np.mean(precision)),
        "without_match": 1,
    }


def test_retrieval_by_hand():
    """Points on a circle, at these degrees."""
    angles = np.radians([0, 10, 30, 200, 195])
    embedding = np.float32(np.stack([np.cos(angles), np.sin(angles)], 1))
    found = retrieval(embedding, np.array([0, 1, 0, 1, 0]))
    # Nearest others: 0: 1 2 | 1: 0 | 2: 1 0 | 3: 4 | 4: 3 2, of which 2, 1, 2, 1, 2 count.
    assert found["recall_at_1"] == 0
    assert found["map_at_r"] == pytest.approx((0.5 / 2 + 0 + 0.5 / 2 + 0 + 0.5 / 2) / 5)
    alone = retrieval(embedding, np.arange(5))
    assert alone["without_match"] == 5 and np.isnan(alone["recall_at_1"])


def test_batches_and_their_order_do_not_matter():
    embedding, labels = embedded()
    whole, parts = EmbeddingMeter(400), EmbeddingMeter(400)
    index = np.arange(60)
    whole.add({"index": index, "embedding": embedding, "label": labels})
    for rows in np.array_split(np.random.default_rng(0).permutation(60), 7):
        parts.add({"index": index[rows], "embedding": embedding[rows], "label": labels[rows]})
    assert parts.metrics() == whole.metrics()


def lfw_text(folds=10, half=2):
    """As LFW has it: tabs; a person of the fold's, and two."""
    lines = [f"{folds}\t{half}"]
    for fold in range(folds):
        lines += [f"Ann_{fold}\t{k + 1}\t{k + 2}" for k in range(half)]
        lines += [f"Ann_{fold}\t1\tBob_{fold}\t{k + 1}" for k in range(half)]
    return "\n".join(lines) + "\n"


def test_lfws_list_of_pairs(tmp_path):
    (tmp_path / "pairs.txt").write_text(lfw_text())
    pairs = read_pairs(str(tmp_path / "pairs.txt"))
    assert len(pairs) == 40
    assert pairs[1] == FilePair("Ann_0/Ann_0_0002", "Ann_0/Ann_0_0003", True, 0)
    assert pairs[-1] == FilePair("Ann_9/Ann_9_0001", "Bob_9/Bob_9_0002", False, 9)
    names = [
        f"val/{name}_{fold}/{name}_{fold}_{k:04d}.jpg"
        for fold in range(10)
        for name in ("Ann", "Bob")
        for k in range(1, 5)
    ]
    found = find_pairs(pairs, names, "val")
    assert (found.first[1], found.second[1]) == (1, 2)
    assert (found.first[-1], found.second[-1]) == (72, 77)
    assert found.same.sum() == 20 and found.fold.tolist() == [p.fold for p in pairs]
    with pytest.raises(DataError, match=r"names 2 images that val does not have, as Bob_9/Bob_9_0"):
        find_pairs(pairs, names[:-4], "val")


def test_one_list_is_cut_into_ten(tmp_path):
    (tmp_path / "dev.txt").write_text(lfw_text(1, 20).replace("1\t20", "20", 1))
    pairs = read_pairs(str(tmp_path / "dev.txt"))
    assert [p.fold for p in pairs] == [*np.repeat(range(10), 2)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", r"line 1: ''; expected FOLDS and PAIRS"),
        (lambda text: "ten 2\n", "line 1: 'ten 2'"),
        (lambda text: text.replace("10\t2", "10\t3", 1), "has 40 lines .* says 10 x 2 x 3"),
        (lambda text: text.replace("Ann_0\t2\t3", "Ann_0\t2", 1), r"line 3: 'Ann_0\\t2'; .* one"),
        (
            lambda text: text.replace("Ann_0\t1\tBob_0\t1", "Ann_0\tx\tBob_0\t1"),
            r"line 4: .* of two",
        ),
        (lambda text: lfw_text(4), "has 4 folds; expected 10, or 1"),
        (lambda text: lfw_text(1, 3), "has 3 pairs of each kind; expected 10"),
        (lambda text: text.replace("Ann", "\udce4", 1), "cannot be read: .*utf-8"),
    ],
)
def test_damaged_lists_are_named_with_their_line(tmp_path, change, message):
    file = tmp_path / "pairs.txt"
    file.write_bytes(change(lfw_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_pairs(str(file))


def test_a_list_is_looked_for_before_anything_starts(loop_config, tmp_path):
    loop_config.task, loop_config.embedding.pairs = "embedding", str(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"embedding\.pairs = .*no\.txt' cannot be read: No such"):
        check_source(loop_config, here=True)
    (tmp_path / "no.txt").write_text(lfw_text())
    check_source(loop_config, here=True)
    split = open_split(loop_config, train=False)
    task = make_task(loop_config, split)
    with pytest.raises(DataError, match=r"names .* images that validation does not have"):
        task.meter(split)


def test_pairs_with_an_image_that_cannot_be_read_are_counted():
    embedding, labels = embedded()
    made = make_pairs(labels, 400)
    meter = EmbeddingMeter(400, PairList(*made))
    there = np.arange(60) != 7
    observed = {"index": np.arange(60), "embedding": embedding, "label": labels}
    meter.add({name: array[there] for name, array in observed.items()})
    gone = (made.first == 7) | (made.second == 7)
    metrics = meter.metrics()
    assert metrics["pairs_left_out"] == gone.sum() > 0
    assert metrics["num_pairs"] == 400 - gone.sum()
    expected = cosine_distances(embedding, made)[~gone]
    np.testing.assert_array_equal(meter.verification.distances, expected)
    few = EmbeddingMeter(400, PairList(*made))
    few.add({name: array[:5] for name, array in observed.items()})
    with pytest.raises(DataError, match="a fold has not both kinds of pairs"):
        few.metrics()
