import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models import create_model
from imagenet_jax.models.cost import count_macs
from imagenet_jax.models.layers.avg_pool import adaptive_avg_pool, avg_pool, flatten_as_torch
from imagenet_jax.models.layers.dropout import Dropout
from imagenet_jax.models.layers.layers import divisible


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 13, 10, 3)).astype(np.float32)


def torch_pool(name, x, *args, **options):
    torch = pytest.importorskip("torch")
    pooled = getattr(torch.nn.functional, name)(
        torch.tensor(x.transpose(0, 3, 1, 2)), *args, **options
    )
    return pooled.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), (2, 1), (3, 1)])
def test_average_pooling_is_torchs(images, window, stride, padding):
    expected = torch_pool("avg_pool2d", images, window, stride, padding)
    np.testing.assert_allclose(avg_pool(images, window, stride, padding), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 7, 13, 15])
def test_adaptive_pooling_is_torchs(images, size):
    expected = torch_pool("adaptive_avg_pool2d", images, size)
    np.testing.assert_allclose(adaptive_avg_pool(images, size), expected, atol=1e-6)


def test_flattening_puts_channels_first(images):
    np.testing.assert_array_equal(
        flatten_as_torch(images), images.transpose(0, 3, 1, 2).reshape(2, -1)
    )


def test_channels_are_rounded_as_in_mobilenet():
    assert [divisible(c) for c in (3, 12, 17, 19.9, 20, 91)] == [8, 16, 16, 24, 24, 88]


@pytest.mark.parametrize("whole", [False, True])
def test_dropout_keeps_the_mean_and_drops_its_share(whole):
    x = jnp.ones((400, 6, 5))
    layer = Dropout(0.25, whole_example=whole)
    out = np.asarray(layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((out == 0).mean() - 0.25) < (0.07 if whole else 0.02)
    per_example = (out == 0).reshape(400, -1)
    assert (per_example.all(1) | ~per_example.any(1)).all() == whole
    np.testing.assert_array_equal(layer.apply({}, x, train=False), x)


def test_an_examples_dropout_depends_on_its_row_alone():
    layer = Dropout(0.5)
    whole = layer.apply({}, jnp.ones((8, 50)), train=True, rngs={"dropout": jax.random.key(1)})
    part = layer.apply({}, jnp.ones((3, 50)), train=True, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_array_equal(whole[:3], part)
    assert len({row.tobytes() for row in np.asarray(whole)}) == 8


@pytest.mark.parametrize(
    "name", ["resnet8", "vit_ti16", pytest.param("efficientnet_b0", marks=pytest.mark.slow)]
)
def test_rematerialisation_changes_memory_not_names(name):
    image, counts, structures = jnp.ones((2, 32, 32, 3)), [], []
    for remat in (False, True):
        model = create_model(name, num_classes=4, remat=remat)
        variables = jax.eval_shape(lambda m=model: m.init(jax.random.key(0), image, train=False))
        structures.append(jax.tree.structure(variables))

        def forward(variables, model=model):
            rngs = {"dropout": jax.random.key(0)}
            return model.apply(variables, image, train=True, mutable=["batch_stats"], rngs=rngs)

        equations = jax.make_jaxpr(forward)(variables).eqns
        counts.append(sum(one.primitive.name in ("checkpoint", "remat2") for one in equations))
    assert structures[0] == structures[1]
    assert counts[0] == 0 < counts[1]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"remat": True}])
def test_scan_changes_the_program_not_names_or_numbers(options):
    options = {"num_classes": 3, "pool": "avg", "depth": 3, "layer_scale": 0.5} | options
    rows, loop = (create_model("vit_ti16", **options, scan=scan) for scan in (False, True))
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = jax.jit(lambda: loop.init(jax.random.key(1), x, train=False))()
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(3), kernel.shape)
    shapes = jax.eval_shape(lambda: rows.init(jax.random.key(1), x, train=False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    assert count_macs(loop, 32) == count_macs(rows, 32)

    lowered = [
        jax.jit(jax.grad(lambda v, m=model: jnp.square(m.apply(v, x, train=True)).sum())).lower(
            variables
        )
        for model in (rows, loop)
    ]
    expected, found = (jax.tree.leaves(one.compile()(variables)) for one in lowered)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())
    products = [one.as_text().count("stablehlo.dot_general") for one in lowered]
    assert 2 * products[1] < 1.6 * products[0]


def test_scan_draws_dropout_at_the_rate_of_each_block():
    """The first block of three is never dropped, the last always but for one in a hundred."""
    options = {"num_classes": 3, "pool": "avg", "depth": 3, "drop_path": 0.99, "scan": True}
    model = create_model("vit_ti16", **options)
    x = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(3), kernel.shape)

    def loss_fn(params):
        logits = model.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(2)})
        return jnp.square(logits).sum()

    gradient = jax.jit(jax.grad(loss_fn))(variables["params"])
    sizes = [
        np.abs(gradient[f"blocks.{number}"]["mlp"]["fc1"]["kernel"]).max() for number in range(3)
    ]
    assert sizes[0] > 0 and sizes[2] == 0
