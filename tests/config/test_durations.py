import pytest

from imagenet_jax.config.durations import is_duration, steps_of


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("300 steps", 300),
        ("1 step", 1),
        ("90 epochs", 112603),  # 90 * 1281167 / 1024 = 112602.6
        ("0.5 epochs", 626),
        ("1_281_167 examples", 1251),
        ("25 percent", 250),
        ("2.5%", 25),
        ("", 0),
    ],
)
def test_steps_of_every_unit(duration, steps):
    found = steps_of(duration, batch_size=1024, num_examples=1281167, total_steps=1000)
    assert found == steps


@pytest.mark.parametrize(
    "text", ["90", "epochs", "-1 steps", "5 weeks", "1e3 steps", "9" * 400 + " epochs", 90, None]
)
def test_what_is_no_duration(text):
    assert not is_duration(text)
