"""The order of an epoch: a permutation of its examples, a function of (seed, epoch)."""

import collections
import functools
import threading

import numpy as np

MOST_SORTED = 2**24  # examples whose order is kept as an array, 128 MB
_KEPT = 3  # arrays
_ROUNDS = 6


def permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The order int64 [num_examples] of one epoch.

    Sorts raw Philox output, whose stream NumPy guarantees; `Generator.permutation` may
    change with any NumPy release, and a resumed run would then see other batches.
    """
    raw = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_examples)
    return np.argsort(raw, kind="stable")


def shuffled(seed: int, epoch: int, num_examples: int, places: np.ndarray) -> np.ndarray:
    """The examples int64 [n] at places int64 [n] of an epoch's order.

    Up to MOST_SORTED examples those of `permutation`, which is made once for all threads, and that
    of the next epoch in time. Of more examples no array is kept, see `bijection`.
    """
    if num_examples > MOST_SORTED:
        return bijection(seed, epoch, num_examples, places)
    found = _permutations.get(seed, epoch, num_examples)[places]
    if len(places) and places.max() > num_examples // 2:
        _permutations.make_ahead(seed, epoch + 1, num_examples)
    return found


class _Permutations:
    """The latest permutations; threads that ask for the same wait for the one that makes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: collections.OrderedDict[tuple[int, int, int], np.ndarray] = (
            collections.OrderedDict()
        )

    def get(self, *key: int) -> np.ndarray:
        found = self._made.get(key)
        return self._make(key) if found is None else found

    def make_ahead(self, *key: int) -> None:
        """Begins to make one that will be asked for."""
        if key not in self._made and not self._lock.locked():
            threading.Thread(target=self._make, args=(key,), daemon=True).start()

    def _make(self, key: tuple[int, int, int]) -> np.ndarray:
        with self._lock:
            if key not in self._made:
                self._made[key] = permutation(*key)
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            return self._made[key]


_permutations = _Permutations()


def bijection(seed: int, epoch: int, num_examples: int, places: np.ndarray) -> np.ndarray:
    """A permutation of 0 to num_examples - 1 that is computed for the places int64 [n] alone.

    A Feistel network (Luby and Rackoff 1988, https://doi.org/10.1137/0217022) over the next even
    number of bits; what falls beyond the last example goes through it again.
    """
    half = (max(int(num_examples - 1).bit_length(), 2) + 1) // 2
    keys = _round_keys(seed, epoch)
    found = np.asarray(places, np.uint64)
    beyond = np.arange(len(found))
    while beyond.size:
        found[beyond] = _feistel(found[beyond], half, keys)
        beyond = beyond[found[beyond] >= num_examples]
    return found.astype(np.int64)


@functools.lru_cache(maxsize=16)
def _round_keys(seed: int, epoch: int) -> np.ndarray:
    return np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(_ROUNDS)


def _feistel(values: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
    mask, shift = np.uint64(2**half - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return left << shift | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
