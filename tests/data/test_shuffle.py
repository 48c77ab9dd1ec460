"""Permutations that are made once, and those that are never made as a whole."""

import threading
import time

import numpy as np
import pytest

from imagenet_jax.data import shuffle
from imagenet_jax.data.order import TrainOrder


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_a_bijection_has_each_example_once(n):
    for epoch in range(3):
        order = shuffle.bijection(7, epoch, n, np.arange(n))
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
        places = np.random.default_rng(epoch).integers(0, n, 50)
        np.testing.assert_array_equal(shuffle.bijection(7, epoch, n, places), order[places])


def test_a_bijection_looks_random():
    n = 20_000
    orders = [
        shuffle.bijection(seed, epoch, n, np.arange(n)) for seed in (0, 1) for epoch in (0, 1)
    ]
    for number, order in enumerate(orders):
        for other in (np.arange(n), *orders[:number]):
            assert abs(np.corrcoef(order, other)[0, 1]) < 0.03
            assert (order == other).sum() < 10  # 1 is to be expected
        steps = np.diff(order)
        assert (steps > 0).mean() == pytest.approx(0.5, abs=0.02)
        assert np.unique(steps).size > 0.5 * n
    # As many fall from one eighth into another as by chance.
    counts = np.histogram2d(np.arange(n), orders[0], 8)[0]
    assert np.abs(counts - n / 64).max() < 5 * (n / 64) ** 0.5


def test_more_examples_than_memory_has_room_for():
    n = 10**11
    places = np.arange(n - 1000, n)
    found = shuffle.shuffled(0, 3, n, places)
    assert np.unique(found).size == 1000 and found.min() >= 0 and found.max() < n


def test_threads_that_ask_at_once_share_one_permutation(monkeypatch):
    made = []

    def slow(*key):
        made.append(key)
        time.sleep(0.05)
        return np.arange(key[2])[::-1]

    monkeypatch.setattr(shuffle, "permutation", slow)
    monkeypatch.setattr(shuffle, "_permutations", shuffle._Permutations())
    order = TrainOrder(3, 1000, 10, np.arange(10))
    threads = [threading.Thread(target=order, args=(step,)) for step in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [(3, 0, 1000)]
    order(60)  # beyond the middle: the next one is made meanwhile
    for _ in range(100):
        if len(made) == 2:
            break
        time.sleep(0.01)
    order(101)
    assert made == [(3, 0, 1000), (3, 1, 1000)]
