import dataclasses

import jax
import jax.numpy as jnp
import pytest
from oracles import reference_model

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.models.facts import FACTS, LAYER_OPTIONS
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.table import MODELS

SMALL = dict.fromkeys(
    ("lenet", "airbench94", "airbench95", "resnet8", "resnet20"), 10
)  # classes of those that are not ImageNet's
# A small variant of each family, and a size in pixels that it can take.
FAMILIES = {
    **{"lenet": 32, "alexnet": 64, "vgg11_bn": 32, "googlenet": 64, "inception_v3": 128},
    **{"resnet18": 32, "bit_r50x1": 64, "densenet121": 64, "squeezenet1_1": 64},
    **{"mobilenet_v2": 64, "mobilenet_v3_small": 64, "efficientnet_b0": 64},
    **{"efficientnet_lite0": 64, "efficientnet_v2_s": 64, "regnet_y_400mf": 64},
    **{"convnext_tiny": 64, "convnextv2_tiny": 64, "nfnet_f0": 64, "vit_ti16": 32},
    **{"mixer_s32": 64, "swin_t": 64, "airbench94": 32, "cspdarknet_nano": 64},
    **{"inception_resnet_v1": 96, "mobilefacenet": 64},
}


@pytest.mark.parametrize(
    "name",
    [
        # Of the others in a family it is the same code with other numbers.
        pytest.param(
            name, marks=[] if name in FAMILIES else [pytest.mark.slow, pytest.mark.exhaustive]
        )
        for name in FACTS
    ],
)
def test_every_row_tells_parameters_and_multiply_adds(name):
    facts = FACTS[name]
    model = create_model(name, num_classes=SMALL.get(name, 1000))
    shapes = variable_shapes(model, facts.image_size)
    assert count_params(shapes) == facts.params
    assert count_macs(model, facts.image_size, shapes) == pytest.approx(1e9 * facts.gmacs, rel=1e-3)
    assert (facts.top1 is None) == (not facts.source)
    assert facts.has_batch_norm == ("batch_stats" in shapes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAMILIES else [pytest.mark.exhaustive])
        for name in FACTS
        if FACTS[name].reference
    ],
)
def test_facts_are_the_reference_implementations(name):
    """torch counts: parameters, and floating-point operations of a model without memory."""
    facts = FACTS[name]
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    # RegNet computes its widths with torch when it is made.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = reference_model(facts.reference).to("meta")
    image = torch.empty(1, 3, facts.image_size, facts.image_size, device="meta")
    assert sum(param.numel() for param in model.parameters()) == facts.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    assert counter.get_total_flops() / 2 == pytest.approx(1e9 * facts.gmacs, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(name):
    model = create_model(name, num_classes=10, dtype=jnp.bfloat16)
    image = jnp.zeros((2, FAMILIES[name], FAMILIES[name], 3))
    variables = variable_shapes(model, FAMILIES[name])
    logits, captured = jax.eval_shape(
        lambda v: model.apply(v, image, train=False, capture_intermediates=True), variables
    )
    assert logits.dtype == jnp.float32 and logits.shape == (2, 10)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    layers = [leaf for leaf in jax.tree.leaves(captured) if leaf.ndim == 4 and leaf.shape[1] > 1]
    assert layers and {leaf.dtype for leaf in layers} == {jnp.dtype("bfloat16")}


def test_every_row_tells_the_options():
    def fields(module):
        return [field.name for field in dataclasses.fields(module)]

    assert list(LAYER_OPTIONS) == fields(Layers)
    for name, facts in FACTS.items():
        others = ("num_classes", "layers", "parent", "name")
        options = [f for f in fields(create_model(name, num_classes=2)) if f not in others]
        assert list(facts.options) == options, name


def test_models_can_be_keys_of_a_cache():
    assert len({create_model(name, num_classes=2) for name in MODELS}) == len(MODELS)


def test_there_is_a_small_variant_of_every_family():
    def modules(names):
        return {type(create_model(name, num_classes=2)) for name in names}

    assert modules(FAMILIES) == modules(MODELS)


def test_unknown_model_and_option_suggest_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        create_model("resnet5O", num_classes=10)
    with pytest.raises(ConfigError, match="did you mean 'zero_init_residual'"):
        create_model("resnet50", num_classes=10, zero_init=True)
    with pytest.raises(ConfigError, match="model vgg16 has no option 'stem'"):
        create_model("vgg16", num_classes=10, stem="cifar")


def test_initial_values_that_a_model_has_no_layers_for_are_refused():
    with pytest.raises(ConfigError, match="model vit_s16 has no option 'bn_init'"):
        create_model("vit_s16", num_classes=10, bn_init="uniform")
    with pytest.raises(ConfigError, match="model bit_r50x1 has no option 'conv_init'"):
        create_model("bit_r50x1", num_classes=10, conv_init="fan_in")
    for option in ("blur_pool", "shortcut", "se_ratio", "uniform_drop_path"):
        with pytest.raises(ConfigError, match=f"model vgg16 has no option '{option}'"):
            create_model("vgg16", num_classes=10, **{option: "conv"})
