"""Which steps are traced. That a trace is written is tried in training/test_loop.py."""

import jax
import pytest

from imagenet_jax.reports.profile import Profile


@pytest.fixture
def profiler(monkeypatch, tmp_path):
    """What the profiler does: after which step it was started and stopped; None: at the end."""
    done, step = [], [None]
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: done.append(step[0]))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append(step[0]))

    def run(steps, start, total, end):
        profile = Profile(tmp_path, steps, start, total)
        for number in range(start + 1, end + 1):
            step[0] = number
            profile(number)
        step[0] = None
        profile.close()
        return done

    return run


@pytest.mark.parametrize(
    ("steps", "start", "total", "traced", "said"),
    [
        (5, 0, 100, [10, 15], ""),
        (5, 40, 100, [50, 55], ""),  # resumed
        (5, 0, 12, [7, 12], ""),  # the last five
        (5, 0, 3, [1, None], "only steps 2 to 3 are traced"),
        (5, 11, 12, [], "nothing is traced: the run ended at step 12"),
    ],
)
def test_a_short_run_is_traced_as_far_as_it_goes(
    profiler, capsys, steps, start, total, traced, said
):
    assert profiler(steps, start, total, end=min(total, start + 40)) == traced
    error = capsys.readouterr().err
    assert said in error and bool(said) == bool(error)


@pytest.mark.parametrize(
    ("end", "traced", "said"),
    [
        (12, [10, None], "only steps 11 to 12"),
        (4, [], "nothing is traced: the run ended at step 4"),
    ],
)
def test_a_run_that_is_stopped_ends_its_trace(profiler, capsys, end, traced, said):
    assert profiler(5, 0, 100, end=end) == traced
    assert said in capsys.readouterr().err
