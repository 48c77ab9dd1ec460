"""Networks for embeddings of faces: the whole of the reference implementations."""

import jax
import numpy as np
import pytest
from oracles import face_embedder

from imagenet_jax.models import Level, levels
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.heads.embedder import create_embedder
from imagenet_jax.weights.torch_layout import import_arrays

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Numbers of an embedding, and parameters. The 0.99 million of MobileFaceNet's paper are those of
# the network whose BatchNorms are folded into biases: 9,792 scales less.
PUBLISHED = {"inception_resnet_v1": (512, 23_482_624), "mobilefacenet": (128, 1_003_136)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilefacenet", "inception_resnet_v1"])
def test_embeddings_are_the_references_by_its_names(name):
    """With BatchNorms that have seen other images, and parameters that are nowhere zero or one."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = face_embedder(FACTS[name].reference).train()
    (size, params), side = PUBLISHED[name], FACTS[name].image_size
    with torch.no_grad():
        for array in model.parameters():
            array += 0.1 * torch.randn_like(array) * (array.ndim == 1)
        for layer in model.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.momentum = 1.0
        model(torch.randn(4, 3, side, side))
    ours = create_embedder(name, size=size)
    shapes = variable_shapes(ours, side)
    assert count_params(shapes) == params
    arrays = {key: array.numpy() for key, array in model.state_dict().items()}
    variables = import_arrays(shapes, arrays)
    x = np.random.default_rng(0).normal(size=(3, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    run = jax.jit(lambda v, x: ours.apply(v, x, train=False), compiler_options=QUICK)
    found = run(variables, x)
    assert found.shape == (3, size) and found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (expected @ expected.T).min() < 0.9  # they are not all the same


@pytest.mark.slow
def test_levels_of_networks_for_faces():
    assert levels("inception_resnet_v1") == (
        Level("conv2d_2b", 2, 64),
        Level("conv2d_4a", 4, 192),
        Level("repeat_1.4", 8, 256),
        Level("repeat_2.9", 16, 896),
        Level("block8", 32, 1792),
    )
    assert levels("mobilefacenet") == (
        Level("conv2_dw", 2, 64),
        Level("conv_3.model.3", 4, 64),
        Level("conv_4.model.5", 8, 128),
        Level("conv_5.model.1", 16, 128),
    )
