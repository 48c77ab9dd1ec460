"""Masked autoencoders against one in PyTorch, on the same weights and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.models.heads.masked_autoencoder import (
    Masked,
    Reconstruction,
    create_masked_autoencoder,
)
from imagenet_jax.models.layers.sincos import sincos2d
from imagenet_jax.models.vit import Visible
from imagenet_jax.tasks.mae_pixels import reconstructed_images, reconstruction_errors
from imagenet_jax.weights.torch_layout import import_arrays

SIZE, PATCH = 24, 4
ENCODER, DECODER = (24, 2, 3), (16, 1, 2)  # width, depth, heads
RATIO = 0.7  # of 36 patches 10 are seen


def create(**options):
    names = ("width", "depth", "heads")
    options = {"patch": PATCH, **dict(zip(names, ENCODER, strict=True)), **options}
    decoder = {f"decoder_{name}": n for name, n in zip(names, DECODER, strict=True)}
    return create_masked_autoencoder("vit_ti16", mask_ratio=RATIO, **decoder, **options)


def reference(*, size, patch, encoder, decoder, token, fixed):
    torchvision()
    from torch_mae import MaskedAutoencoder

    grid = (size // patch, size // patch)
    places = sincos2d(*grid, encoder[0]) if fixed else None
    places = {"positions": places, "decoder_positions": sincos2d(*grid, decoder[0])}
    return MaskedAutoencoder(size, patch, encoder, decoder, token=token, **places)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, SIZE, SIZE, 3)).astype(np.float32)
    return image, rng.random((3, (SIZE // PATCH) ** 2), np.float32)


@pytest.mark.parametrize(
    ("pool", "pos_embed"),
    [("token", "learn"), pytest.param("avg", "sincos2d", marks=pytest.mark.slow)],
)
def test_encoder_masks_decoder_and_loss_are_those_of_the_paper(pool, pos_embed, batch):
    torch = pytest.importorskip("torch")
    image, noise = batch
    theirs = reference(
        size=SIZE,
        patch=PATCH,
        encoder=ENCODER,
        decoder=DECODER,
        token=pool == "token",
        fixed=pos_embed == "sincos2d",
    )
    torch.manual_seed(0)
    pixels = torch.tensor(image.transpose(0, 3, 1, 2))
    with torch.no_grad():
        for param in theirs.parameters():
            param.add_(torch.randn_like(param) * 0.2)
        encoded, told, hidden = theirs(pixels, torch.tensor(noise), RATIO)
        features = theirs.features(pixels).numpy()
        errors = [theirs.errors(pixels, told, hidden, norm).numpy() for norm in (True, False)]
    model = create(pool=pool, pos_embed=pos_embed)
    arrays = {name: value.numpy() for name, value in theirs.state_dict().items()}
    variables = import_arrays(variable_shapes(model, SIZE), arrays)

    @jax.jit
    def ours(variables, image, noise):
        found = model.apply(variables, Masked(image, noise), train=False)
        seen = Visible(image, jnp.argsort(noise, 1)[:, :10])
        losses = [
            reconstruction_errors(image, found, PATCH, norm_pixels=norm) for norm in (True, False)
        ]
        tokens = model.backbone.apply(variables, seen, train=False)
        return model.apply(variables, image, train=False), found, tokens, losses

    whole, found, tokens, losses = ours(variables, image, noise)
    np.testing.assert_allclose(whole, features, atol=1e-4)
    assert (np.asarray(found.masked) == (hidden.numpy() > 0)).all()
    assert (found.masked.sum(1) == 36 - 10).all()
    np.testing.assert_allclose(tokens, encoded.numpy(), atol=1e-4)
    first = int(pool == "token")
    np.testing.assert_allclose(found.features, encoded[:, first:].mean(1), atol=1e-4)
    np.testing.assert_allclose(found.patches, told.numpy(), atol=1e-4)
    np.testing.assert_allclose(losses, errors, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"scan": True, "drop_path": 0.2}, {"remat": True}])
def test_a_loop_and_remat_compute_the_same(options, batch):
    image, noise = batch
    model, plain = create(pool="token", **options), create(pool="token")
    shapes = variable_shapes(plain, SIZE)
    assert jax.tree.structure(variable_shapes(model, SIZE)) == jax.tree.structure(shapes)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype("f4"), shapes)

    def gradient(model):
        def loss(variables):
            found = model.apply(variables, Masked(image, noise), train=False)
            return reconstruction_errors(image, found, PATCH, norm_pixels=True).sum()

        return jax.jit(jax.grad(loss))(variables)

    pairs = zip(*(jax.tree.leaves(gradient(m)) for m in (model, plain)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-4 * max(np.abs(other).max(), 1))
    if options.get("drop_path"):  # it is there in training
        rngs = {"dropout": jax.random.key(0)}
        dropped = model.apply(variables, Masked(image, noise), train=True, rngs=rngs)
        kept = model.apply(variables, Masked(image, noise), train=False)
        assert np.abs(dropped.features - kept.features).max() > 1e-3


def test_the_picture_has_the_pixels_that_are_seen_and_those_that_are_told(batch):
    """What a network would say that is always right gives the image itself back."""
    image, noise = batch
    tiles = image.reshape(3, 6, PATCH, 6, PATCH, 3).swapaxes(2, 3).reshape(3, 36, -1)
    variance = tiles.var(-1, keepdims=True, ddof=1)
    right = (tiles - tiles.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-6)
    found = Reconstruction(None, right, noise > 0.3)
    drawn = reconstructed_images(image, found, PATCH, norm_pixels=True)
    np.testing.assert_allclose(drawn, image, atol=1e-5)
    drawn = reconstructed_images(image, found, PATCH, norm_pixels=False)
    differs = np.abs(drawn - image).reshape(3, 6, PATCH, 6, PATCH, 3).max((2, 4, 5)) > 1e-3
    assert (differs.reshape(3, 36) == found.masked).all()


def test_parameters_of_the_published_size_are_those_of_torch():
    """ViT-B/16 with 8 blocks of 512; with both tables of positions the file has 111.9 M."""
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        theirs = reference(
            size=224,
            patch=16,
            encoder=(768, 12, 12),
            decoder=(512, 8, 16),
            token=True,
            fixed=True,
        )
    expected = {name: param.numel() for name, param in theirs.named_parameters()}
    model = create_masked_autoencoder("vit_b16", pos_embed="sincos2d")
    shapes = variable_shapes(model, 224)
    assert count_params(shapes) == sum(expected.values()) == 111_655_680
    decoder = {k: v for k, v in shapes["params"].items() if k.startswith(("decoder", "mask"))}
    theirs = [n for name, n in expected.items() if name.startswith(("decoder", "mask"))]
    assert count_params({"params": decoder}) == sum(theirs) == 26_008_320


def test_what_has_no_patches_is_refused():
    with pytest.raises(ConfigError, match="'resnet50' has no patches to hide; expected a ViT"):
        create_masked_autoencoder("resnet50")
    with pytest.raises(ConfigError, match=r"5 heads do not divide config\.model\.width = 24"):
        variable_shapes(create(heads=5), SIZE)
