"""Predicted costs of recipes, from rows as benchmarks/recipe_costs.py writes them."""

import pytest

from imagenet_jax.config import load_config
from imagenet_jax.study import recipe_costs
from imagenet_jax.study.recipe_costs import Cost, predicted_cost, steps

N = 1_281_167


@pytest.fixture
def rows(tmp_path, monkeypatch):
    def write(*rows):
        head = "step,place,asked_batch,batch,seconds,date,compiler"
        path = tmp_path / "costs.csv"
        path.write_text("\n".join([head, *(f"{row},2026-01-01,jax" for row in rows)]))
        monkeypatch.setattr(recipe_costs, "FILE", path)
        recipe_costs.compiled_steps.cache_clear()

    yield write
    recipe_costs.compiled_steps.cache_clear()


def test_a_run_costs_the_sum_of_its_stages(rows):
    """FFCV, 16 epochs: 160 pixels, and 192 from the twelfth epoch on."""
    config = load_config("ffcv_resnet50:16")
    network = "model.name=resnet50 data.train_size={} model.blur_pool=conv"
    found = list(steps(config, "v5e-8"))
    assert [(step, batch) for step, batch, *_ in found] == [
        (network.format(160), 128),
        (network.format(192), 128),
    ]
    assert [images / N for *_, images, _ in found] == pytest.approx([12, 4])
    assert predicted_cost(config, "v4-32") is None
    rows(
        f"{network.format(160)},v5e-8,128,128,0.04",
        f"{network.format(192)},v5e-8,128,64,0.032",
        f"{network.format(160)},8 x H100,256,256,0.02",
        f"{network.format(192)},8 x H100,256,256,0.02",
    )
    seconds = 12 * N / (8 * 128 / 0.04) + 4 * N / (8 * 64 / 0.032)
    assert predicted_cost(config, "v5e-8") == pytest.approx(Cost(seconds / 3600, 25_600))
    assert predicted_cost(config, "v4-32") is None
    # A GPU reaches 0.73 of its bound, docs/step-study.md.
    bound = 8 * 256 / 0.02
    assert predicted_cost(config, "8 x H100") == pytest.approx(
        Cost(16 * N / bound / 0.73 / 3600, 0.73 * bound)
    )


def test_a_size_between_those_that_are_compiled_goes_by_its_area(rows):
    config = load_config("torchvision_v1:resnet18")
    rows("model.name=resnet18 data.train_size=224,v4-32,16,16,0.01")
    whole = predicted_cost(config, "v4-32")
    config.data.train_size = 227
    assert predicted_cost(config, "v4-32").hours == pytest.approx((227 / 224) ** 2 * whole.hours)


def test_a_second_pass_costs_as_much_as_the_first(rows):
    """Sharpness-aware minimization at every tenth step; a batch that fills no device."""
    config = load_config("torchvision_v1:resnet18")
    rows("model.name=resnet18 data.train_size=224,v4-32,16,16,0.01")
    plain = predicted_cost(config, "v4-32")
    assert plain.images_per_second == pytest.approx(16 * 16 / 0.01)
    config.optim.sam, config.optim.sam_every = 0.05, 10
    assert predicted_cost(config, "v4-32").hours == pytest.approx(1.1 * plain.hours)


def test_views_and_halves_change_what_the_network_sees_of_a_photo(rows):
    config = load_config("torchvision_v1:resnet18")
    rows("model.name=resnet18 data.train_size=224,v4-32,16,16,0.01")
    plain = predicted_cost(config, "v4-32").hours
    config.data.views = 3
    assert predicted_cost(config, "v4-32").hours == pytest.approx(3 * plain)
    config.data.views, config.augment.mix_per = 1, "half"
    assert predicted_cost(config, "v4-32").hours == pytest.approx(plain / 2)
    config.distill.weights = "resnet50"  # whose part no step has
    assert predicted_cost(config, "v4-32") is None
