import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.data.balanced_order import BalancedOrder
from imagenet_jax.data.order import EvalOrder, TrainOrder, even_batch
from imagenet_jax.data.shuffle import permutation

# (examples, batch size); some are primes
SIZES = [(7, 3), (10, 4), (97, 10), (12, 4), (5, 8), (1, 3), (1009, 64), (7919, 96)]


def whole(order, num_examples, batch_size, **options):
    """The order of a single process that holds all rows."""
    return order(
        num_examples=num_examples, batch_size=batch_size, rows=np.arange(batch_size), **options
    )


def joined(order, steps):
    """index, epoch and mask of several steps, one after the other."""
    return [np.concatenate(parts) for parts in zip(*map(order, steps), strict=True)]


@pytest.mark.parametrize(("n", "batch_size"), SIZES)
def test_each_training_epoch_has_each_example_once(n, batch_size):
    order = whole(TrainOrder, n, batch_size, seed=3)
    index, epoch, mask = (a[: 3 * n] for a in joined(order, range(-(-3 * n // batch_size))))
    np.testing.assert_array_equal(np.sort(index.reshape(3, n)), np.tile(np.arange(n), (3, 1)))
    np.testing.assert_array_equal(epoch, np.repeat(np.arange(3), n))
    assert mask.all()


@pytest.mark.parametrize(("n", "batch_size"), SIZES)
def test_batches_run_across_the_ends_of_epochs(n, batch_size):
    order = whole(TrainOrder, n, batch_size, seed=3)
    stream = np.concatenate([permutation(3, epoch, n) for epoch in range(40)])
    for step in (4, 0, 2):  # any order: a step does not know what was asked before
        expected = stream[step * batch_size : (step + 1) * batch_size]
        np.testing.assert_array_equal(order(step).index, expected)


def test_epochs_and_seeds_have_unrelated_orders():
    orders = [permutation(seed, epoch, 1000) for seed in range(3) for epoch in range(3)]
    for i, first in enumerate(orders):
        for second in orders[:i]:
            assert (first == second).sum() < 15  # of two random orders, 1 place agrees


def test_the_order_is_that_of_earlier_versions():
    """Written down: a NumPy that sorts or draws otherwise would break every resumed run."""
    assert permutation(0, 0, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(7, 3, 10).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("kind", ["train", "eval"])
def test_the_rows_of_all_processes_make_the_batch_of_one(processes, kind):
    def order(rows):
        return TrainOrder(0, 21, 8, rows) if kind == "train" else EvalOrder(21, 8, rows)

    for step in range(3):
        one = order(np.arange(8))(step)
        blocks = [order(rows)(step) for rows in np.split(np.arange(8), processes)]
        for expected, *parts in zip(one, *blocks, strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), expected)
        scattered = order(np.array([6, 1, 3]))(step)
        np.testing.assert_array_equal(scattered.index, one.index[[6, 1, 3]])


def test_positions_beyond_int32_are_exact():
    rows = np.arange(4, dtype=np.int32)
    index, epoch, _ = TrainOrder(0, 1000, 4096, rows)(1_000_000)
    place = 4_096_000_000 % 1000
    assert epoch.tolist() == [4_096_000] * 4
    np.testing.assert_array_equal(index, permutation(0, 4_096_000, 1000)[place : place + 4])


@pytest.mark.parametrize(("n", "batch_size"), SIZES)
def test_evaluation_has_each_example_once_then_padding(n, batch_size):
    order = whole(EvalOrder, n, batch_size)
    assert order.num_steps == -(-n // batch_size)
    index, epoch, mask = joined(order, range(order.num_steps))
    np.testing.assert_array_equal(index[:n], np.arange(n))
    assert mask[:n].all() and not mask[n:].any()
    assert (index[n:] == -1).all() and not epoch.any()


def test_rows_have_the_dtypes_of_a_batch():
    for order in TrainOrder(0, 5, 8, np.arange(8)), EvalOrder(5, 8, np.arange(8)):
        assert [a.dtype.name for a in order(0)] == ["int32", "int32", "bool"]


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize(("n", "batch_size"), [(1009, 64), (97, 10), (5, 8)])
def test_all_processes_together_see_each_example_once_an_epoch(processes, n, batch_size):
    """Also where the processes' shares of the batch are not of one size."""
    seen = []
    for rows in np.array_split(np.arange(batch_size), processes):
        order = TrainOrder(1, n, batch_size, rows)
        index, epoch, _ = joined(order, range(-(-2 * n // batch_size)))
        seen += zip(epoch.tolist(), index.tolist(), strict=True)
    assert len(seen) == len(set(seen))
    assert {(e, i) for e in range(2) for i in range(n)} <= set(seen)


@pytest.mark.parametrize("repeats", [2, 3])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 6), (97, 12), (1009, 48), (5, 12)])
def test_repeated_augmentation_has_each_example_so_often_in_a_batch_and_a_pass(
    n, batch_size, repeats
):
    order = whole(TrainOrder, n, batch_size, seed=3, repeats=repeats)
    for step in range(4):
        index, epoch, _ = order(step)
        blocks = index.reshape(repeats, -1)
        assert (blocks == blocks[0]).all()
        assert (np.diff(epoch.reshape(repeats, -1), axis=0) == 1).all()
    index, epoch, _ = joined(order, range(-(-2 * n * repeats // batch_size)))
    pairs = list(zip(epoch.tolist(), index.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert {(e, i) for e in range(2 * repeats) for i in range(n)} <= set(pairs)


@pytest.mark.parametrize(("repeats", "ranks", "share"), [(3, 4, 16), (3, 2, 5), (4, 3, 6)])
def test_batches_with_repeats_are_those_of_deits_sampler(repeats, ranks, share):
    """Of all ranks together; 3 divides neither 64 nor 10."""
    torchvision()  # timm imports it
    samplers = pytest.importorskip("timm.data.distributed_sampler", reason="timm is not installed")
    n, size = 1009, ranks * share
    theirs = [
        list(samplers.RepeatAugSampler(range(n), ranks, rank, False, repeats))
        for rank in range(ranks)
    ]
    order = whole(TrainOrder, n, size, seed=3, repeats=repeats)
    shuffled = permutation(3, 0, n)
    for step in range(len(theirs[0]) // share):
        index, epoch, _ = order(step)
        part = slice(step * share, (step + 1) * share)
        expected = shuffled[np.concatenate([one[part] for one in theirs])]
        np.testing.assert_array_equal(np.sort(index), np.sort(expected))
        assert len(set(zip(index.tolist(), epoch.tolist(), strict=True))) == size
        pairs = index[: size // 2 * 2].reshape(-1, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_an_order_with_an_offset_goes_on_where_another_batch_size_was(repeats):
    """After 5 batches of 12, half of them repeated: 30 distinct examples."""
    first = joined(whole(TrainOrder, 50, 12, seed=3, repeats=2), range(5))[0].reshape(5, 2, 6)[:, 0]
    size, distinct = 8, 8 // repeats
    order = whole(TrainOrder, 50, size, seed=3, repeats=repeats, offset=30 * repeats - 5 * size)
    rest = joined(order, range(5, 16))[0].reshape(-1, repeats, distinct)[:, 0]
    seen = np.concatenate([first.reshape(-1), rest.reshape(-1)])[:50]
    np.testing.assert_array_equal(seen, permutation(3, 0, 50))


def test_repeated_augmentation_does_not_depend_on_the_processes():
    one = TrainOrder(0, 50, 12, np.arange(12), repeats=3)(7)
    parts = [TrainOrder(0, 50, 12, rows, repeats=3)(7) for rows in np.split(np.arange(12), 4)]
    for expected, *blocks in zip(one, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_a_part_of_the_rows_is_filled_up_with_padding():
    rows = TrainOrder(0, 50, 5, np.arange(5))(9)
    first, last, beyond = rows.part(0, 3), rows.part(3, 3), rows.part(6, 3)
    np.testing.assert_array_equal(first.index, rows.index[:3])
    assert last.index.tolist() == [*rows.index[3:], -1] and last.mask.tolist() == [1, 1, 0]
    assert not beyond.mask.any() and (beyond.index == -1).all() and not beyond.epoch.any()
    assert [a.dtype for a in last] == [a.dtype for a in rows]


@pytest.mark.parametrize(
    ("n", "most", "multiple", "size"),
    [
        (100, 256, 1, 100),  # all at once, and nothing more
        (100, 256, 8, 104),
        (300, 256, 1, 150),  # two, and not one and a sixth
        (50_000, 1024, 8, 1024),
        (10_000, 250, 1, 250),
        (30, 7, 8, 8),  # each device gets one at least
        (1, 256, 8, 8),
        (0, 256, 1, 1),
    ],
)
def test_batches_are_as_even_as_can_be(n, most, multiple, size):
    assert even_batch(n, most, multiple) == size


@pytest.mark.parametrize("multiple", [1, 8])
def test_even_batches_are_no_more_and_no_larger(multiple):
    for n in range(1, 200):
        for most in (1, 7, 16, 64):
            allowed = -(-most // multiple) * multiple
            size = even_batch(n, most, multiple)
            assert size <= allowed and size % multiple == 0
            batches = -(-n // size)
            assert batches == -(-n // allowed)
            assert batches * size - n < batches * multiple


CLASSES = [np.array(c) for c in ([3, 8, 12], [0], list(range(20, 31)), [1, 2, 4, 5, 6, 7])]


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_balanced_stream_has_every_class_once_a_round(repeats):
    order = BalancedOrder(5, 21, 8 * repeats, np.arange(8 * repeats), repeats, by_class=CLASSES)
    index, epoch, _ = joined(order, range(33))  # 66 rounds of 4 classes
    blocks = index.reshape(33, repeats, 8), epoch.reshape(33, repeats, 8)
    np.testing.assert_array_equal(blocks[0][:, 0], blocks[0][:, -1])
    first, passes = (block[:, 0].ravel() for block in blocks)
    class_of = {int(example): k for k, mine in enumerate(CLASSES) for example in mine}
    rounds = np.array([class_of[i] for i in first.tolist()]).reshape(-1, 4)
    np.testing.assert_array_equal(np.sort(rounds), np.tile(np.arange(4), (66, 1)))
    assert len(np.unique(rounds, axis=0)) > 12  # of 24 orders
    for mine in CLASSES:
        of_class = np.isin(first, mine)
        whole = 66 // len(mine) * len(mine)
        times = np.sort(first[of_class][:whole].reshape(-1, len(mine)))
        np.testing.assert_array_equal(times, np.tile(mine, (len(times), 1)))
        expected = np.arange(66) // len(mine) * repeats
        np.testing.assert_array_equal(passes[of_class], expected)
        if len(mine) > 2:
            assert len(np.unique(first[of_class][:whole].reshape(-1, len(mine)), axis=0)) > 3
    # No augmentation comes twice, and another process or start sees the same.
    assert len({*zip(index.tolist(), epoch.tolist(), strict=True)}) == len(index)
    part = BalancedOrder(5, 21, 8 * repeats, np.array([2, 5]), repeats, by_class=CLASSES)
    np.testing.assert_array_equal(part(17).index, order(17).index[[2, 5]])
