"""The search for the largest batch, on a chip whose limit is known."""

import itertools

import pytest

from imagenet_jax.study.memory import Fit, largest_batch

CAPACITY = 1000


def fit_within(limit):
    """A step that fits up to `limit` images: from half of it, activations are computed again."""

    def fit(batch):
        peak = CAPACITY * min(batch / limit * 2, 0.999) if batch <= limit else 2.0 * CAPACITY
        compiled = None if batch > limit else object()
        return Fit(compiled, peak, CAPACITY, estimated_batch=int(batch * CAPACITY / peak))

    return fit


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 100, 1555, 4140])
@pytest.mark.parametrize(("start", "unit"), [(1, 1), (8, 1), (128, 32), (16384, 64)])
def test_search_ends_an_eighth_below_what_does_not_fit(limit, start, unit):
    tried = []
    fit_of = fit_within(limit)

    def compiled(batch):
        tried.append(batch)
        return fit_of(batch)

    found = largest_batch(fit_of(start), start, unit, compiled)
    assert found % unit == 0 and found <= limit
    assert limit < found + max(unit, found // 8)
    assert len(set(tried)) == len(tried) <= 16 and start not in tried


def test_search_needs_few_compilations_where_memory_grows_with_the_batch():
    """As in most steps: the first estimate is right."""
    count = itertools.count()

    def fit_of(batch):
        next(count)
        fits = batch <= 500
        return Fit(object() if fits else None, 2.0 * batch, CAPACITY, 500)

    assert 444 < largest_batch(fit_of(32), 32, 1, fit_of) <= 500
    assert next(count) <= 4
