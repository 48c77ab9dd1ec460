"""A run's place in its data and its schedule, when the size of its steps changes on the way."""

import itertools

import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.data.order import TrainOrder
from imagenet_jax.training.position import Course, course_of
from imagenet_jax.training.schedules import make_schedule


def config_of(batch_size, repeats=1, **schedule):
    config = base_config()
    config.batch_size, config.data.repeats = batch_size, repeats
    config.schedule.update(schedule)
    return config


def resumed(config, step, before):
    """The course of a config after so many steps of the course before."""
    record = {"position": before.position(step, 1000), "data": {"num_examples": 1000}}
    record["config"] = config_of(before.batch_size, before.repeats).to_dict()
    return course_of(config, record)


def test_a_finished_run_goes_on_with_smaller_steps_where_it_was():
    """45 steps of 64, then two epochs more of steps of 32."""
    before = course_of(config_of(64))
    after = resumed(config_of(32), 45, before)
    assert after.examples(45) == before.examples(45) == 2880
    assert after.steps("4 epochs", 1437) == 45 + round((4 * 1437 - 2880) / 32)
    assert after.position(45, 1437) == {
        **{"step": 45, "examples": 2880, "distinct": 2880, "copy": 0, "epoch": 2, "example": 6},
        **{"epoch_offset": 0, "changes": [[45, 2880]]},
    }
    assert resumed(config_of(64), 50, after).examples(51) == 2880 + 5 * 32 + 64


def test_records_of_before_tell_the_steps_only():
    record = {"position": {"step": 45, "epoch": 2, "example": 6}, "data": {"num_examples": 640}}
    record["config"] = config_of(64, repeats=2).to_dict()
    assert course_of(config_of(64, repeats=2), record) == Course(64, 2)
    changed = {"changes": ((45, 45 * 64),)}
    later = Course(32, 1, 45 * 32, 0, epoch_offset=3, **changed)
    assert course_of(config_of(32), record) == later
    del record["config"]["data"]["repeats"]
    assert course_of(config_of(32), record) == Course(32, 1, 45 * 32, 45 * 32, **changed)


def test_a_warmup_that_is_over_stays_over_with_another_batch_size():
    """20 steps of 32 images, then 80 more, then steps of 8 and of 96: the rate goes on."""
    config = config_of(32)
    config.schedule.update(name="cosine", warmup="20 steps")
    config.duration = "200 steps"

    def factor(course, size, total, step):
        config.batch_size = size
        rate = make_schedule(config, total_steps=total, num_examples=1000, course=course)
        return float(rate(step)) / config.optim.learning_rate

    expected = factor(course_of(config), 32, 200, 100)
    small = resumed(config_of(8), 100, course_of(config_of(32)))
    assert factor(small, 8, 100 + 400, 100) == pytest.approx(expected, rel=1e-3)
    large = resumed(config_of(96), 200, small)  # 100 steps of 8 later
    after = (1 + np.cos(np.pi * (3200 + 800 - 640) / (6400 - 640))) / 2
    assert factor(large, 96, 200 + 25, 200) == pytest.approx(after, rel=1e-3)
    warming = resumed(config_of(8), 10, course_of(config_of(32)))  # ten updates are left of it
    assert factor(warming, 8, 10 + 760, 15) == pytest.approx(
        (320 / 8 + 5) / (320 / 8 + 10), rel=1e-3
    )


@pytest.mark.parametrize(
    "changes",
    [
        *([(4, 5), (1, 5), (4, 5)], [(1, 13), (3, 2), (2, 3), (1, 6)]),
        *([(4, 40), (2, 1), (1, 100)], [(2, 7), (2, 9), (4, 3)]),
        [(5, 40), (5, 1), (3, 1), (7, 9)],
    ],
)
def test_no_augmentation_comes_twice_when_repeats_change(changes):
    """Pairs of example and epoch, which it is a function of; each so often as there are repeats."""
    size, examples, done, course, seen = 12, 1000, 0, None, []
    for repeats, steps in changes:
        config = config_of(size, repeats)
        course = resumed(config, done, course) if course else course_of(config)
        rows = np.arange(size)
        order = TrainOrder(0, examples, size, rows, repeats, *course.order_offsets)
        for step in range(done, done + 20 * steps):
            index, epoch, _ = order(step)
            seen += zip(index.tolist(), epoch.tolist(), strict=True)
        done += 20 * steps
    assert len(seen) == len(set(seen)) > examples
    if all(a <= b for (a, _), (b, _) in itertools.pairwise(changes)):
        assert course.epoch_offset == 0  # what needs no offset keeps its bits


def test_a_run_goes_on_between_the_copies_of_an_example():
    """Three copies of each, in batches that they do not divide, of which one is another size."""
    course, seen, done = course_of(config_of(10, 3)), [], 0
    for size, steps in ((10, 4), (8, 5), (10, 31)):
        course = resumed(config_of(size, 3), done, course)
        order = TrainOrder(0, 50, size, np.arange(size), 3, *course.order_offsets)
        for step in range(done, done + steps):
            index, epoch, _ = order(step)
            seen += zip(index.tolist(), epoch.tolist(), strict=True)
        done += steps
    index, epoch, _ = TrainOrder(0, 50, 390, np.arange(390), 3)(0)
    assert sorted(seen) == sorted(zip(index.tolist(), epoch.tolist(), strict=True))


def test_what_is_periodic_goes_by_examples():
    course = Course(32, offset=48)
    assert [step for step in range(1, 12) if course.is_due(step, 3)] == [2, 5, 8, 11]
    assert not any(course.is_due(step, 0) for step in range(1, 12))
    assert [step for step in range(1, 12) if Course(32).is_due(step, 3)] == [3, 6, 9]


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "cosine", "warmup": "1 epochs"},
        {"name": "linear", "warmup": "10 percent", "end": 0.1},
        {"name": "step", "boundaries": ("5 epochs", "80 percent")},
        {
            "name": "polynomial",
            "warmup": "2 epochs",
            "warmup_prefix": False,
            "cooldown": "1 epochs",
        },
        {"name": "rsqrt", "warmup": "1 epochs", "timescale": "5 percent", "cooldown": "30 percent"},
        {"name": "exponential", "timescale": "1.5 epochs", "factor": 0.5},
    ],
)
@pytest.mark.parametrize("size", [8, 48, 96])
def test_the_rate_is_a_function_of_the_share_of_examples_seen(schedule, size):
    """After 100 steps of 32 on 640 examples, half of 10 epochs, it is that of the same place."""
    old, new = config_of(32, **schedule), config_of(size, **schedule)
    course = resumed(new, 100, course_of(old))
    total = course.steps("10 epochs", 640)
    assert course.examples(total) == pytest.approx(6400, abs=size / 2)
    rate = make_schedule(old, total_steps=200, num_examples=640)
    goes_on = make_schedule(new, total_steps=total, num_examples=640, course=course)
    for step in np.arange(100, total, 7):
        expected = rate(course.examples(int(step)) / 32)
        np.testing.assert_allclose(goes_on(step), expected, rtol=0, atol=1e-3)


def test_durations_in_steps_count_updates():
    course = resumed(config_of(32), 10, course_of(config_of(64)))
    assert course.steps("20 steps", 640) == 20
    config = config_of(32, name="constant", warmup="20 steps")
    rate = make_schedule(config, total_steps=30, num_examples=640, course=course)
    examples = course.examples(15) / course.examples(20)
    np.testing.assert_allclose(rate(15), 0.1 * examples, rtol=1e-6)
    assert rate(20) == pytest.approx(0.1)
