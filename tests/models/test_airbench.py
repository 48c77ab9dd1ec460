import jax
import numpy as np
import pytest

from imagenet_jax.models import create_model
from imagenet_jax.models.airbench import partial_identity
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.weights.torch_layout import import_arrays

torch = pytest.importorskip("torch", reason="torch is not installed")


def norm(features):
    return torch.nn.BatchNorm2d(features, eps=1e-12, momentum=0.4)


class Group(torch.nn.Module):
    def __init__(self, inputs, features):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, features, 3, padding="same", bias=False)
        self.norm1 = norm(features)
        self.conv2 = torch.nn.Conv2d(features, features, 3, padding="same", bias=False)
        self.norm2 = norm(features)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.norm1(torch.nn.functional.max_pool2d(self.conv1(x), 2)))
        return torch.nn.functional.gelu(self.norm2(self.conv2(x)))


class Reference(torch.nn.Module):
    """As airbench94_muon.py has it, with the scale of legacy/airbench94.py."""

    def __init__(self):
        super().__init__()
        self.whiten = torch.nn.Conv2d(3, 24, 2)
        self.layers = torch.nn.Sequential(
            torch.nn.GELU(), Group(24, 64), Group(64, 256), Group(256, 256)
        )
        self.head = torch.nn.Linear(256, 10, bias=False)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.layers(self.whiten(x)), 3)
        return self.head(x.flatten(1)) / 9


def test_logits_and_running_statistics_are_those_of_the_reference():
    torch.manual_seed(0)
    reference = Reference()
    image = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
    model = create_model("airbench94", num_classes=10)
    arrays = {k: v.numpy() for k, v in reference.state_dict().items() if "num_batches" not in k}
    variables = import_arrays(variable_shapes(model, 32), arrays)
    ours, updated = model.apply(variables, image, train=True, mutable=["batch_stats"])
    theirs = reference.train()(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    found = updated["batch_stats"]["layers.3"]["norm2"]["var"]
    np.testing.assert_allclose(found, reference.layers[3].norm2.running_var, rtol=1e-4)


def test_patches_of_the_images_are_white_behind_the_first_kernel():
    """Second moments: the identity, less what epsilon takes of the smallest."""
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.normal(size=(64, 16, 16, 3)), 1).astype(np.float32)
    model = create_model("airbench94", num_classes=10)
    kernel = model.data_dependent(images)["params"]["whiten"]["kernel"]
    seen = torch.nn.functional.conv2d(
        torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(kernel.transpose(3, 2, 0, 1))
    )
    flat = seen.permute(0, 2, 3, 1).reshape(-1, 24).double()
    moments = (flat.T @ flat / len(flat)).numpy()
    np.testing.assert_allclose(moments[:12, :12], np.eye(12), atol=2e-3)
    np.testing.assert_allclose(moments[12:, :12], -np.eye(12), atol=2e-3)


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (3, 3, 6, 4)])
def test_the_first_filters_hand_their_input_on(shape):
    kernel = np.asarray(partial_identity(jax.random.key(0), shape))
    reference = torch.empty(shape[::-1]).fill_(7.0).permute(0, 1, 3, 2).contiguous()
    torch.nn.init.dirac_(reference[: shape[2]])
    expected = reference.permute(2, 3, 1, 0).numpy()
    same = expected != 7.0
    np.testing.assert_array_equal(kernel[same], expected[same])
    rest = kernel[~same]
    assert (np.abs(rest) <= 1 / np.sqrt(9 * shape[2])).all() and len(np.unique(rest)) == rest.size
