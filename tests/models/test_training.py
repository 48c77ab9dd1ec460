"""Every family can be trained: a small one learns eight random images by heart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imagenet_jax.models import (
    airbench,
    alexnet,
    bit,
    convnext,
    darknet,
    densenet,
    efficientnet,
    googlenet,
    inception,
    inception_resnet,
    lenet,
    mixer,
    mobilefacenet,
    mobilenet,
    nfnet,
    regnet,
    resnet,
    squeezenet,
    swin,
    table,
    vgg,
    vit,
)
from imagenet_jax.models.layers.layers import Layers

# As small as the family allows; images of 32 pixels unless it says else.
SMALL = {
    "lenet": lenet.LeNet,
    "airbench": partial(airbench.Airbench, widths=(16, 24, 24)),
    "alexnet": partial(alexnet.AlexNet, dropout=0.0),
    "vgg": partial(vgg.VGG, (1, 1, 1, 1, 1), dropout=0.0, batch_norm=True),
    "googlenet": partial(googlenet.GoogLeNet, dropout=0.0, auxiliary_dropout=0.0),
    "inception": partial(inception.InceptionV3, dropout=0.0, auxiliary=False),
    "inception_resnet": partial(inception_resnet.InceptionResNetV1, dropout=0.0),
    "resnet": partial(resnet.ResNet, (1, 1, 1), resnet.Bottleneck, width=16, stem="cifar"),
    "resnext": partial(
        resnet.ResNet, (1, 1), resnet.Bottleneck, groups=4, base_width=16, width=32, stem="cifar"
    ),
    "bit": partial(bit.BiT, (1, 1)),
    "densenet": partial(densenet.DenseNet, (2, 2), growth=12),
    "squeezenet": partial(squeezenet.squeezenet1_1, dropout=0.0),
    "mobilefacenet": mobilefacenet.MobileFaceNet,
    "mobilenet_v2": partial(mobilenet.MobileNetV2, width_multiplier=0.25, dropout=0.0),
    "mobilenet_v3": partial(mobilenet.MobileNetV3, mobilenet.SMALL, 128, dropout=0.0),
    "darknet": partial(darknet.CSPDarknet, width=8),
    "efficientnet": partial(
        efficientnet.EfficientNet, efficientnet.B0[:3], width=0.5, dropout=0.0, drop_path=0.0
    ),
    "efficientnet_lite": partial(
        efficientnet.EfficientNet, efficientnet.B0[:3], lite=True, dropout=0.0, drop_path=0.0
    ),
    "efficientnet_v2": partial(
        efficientnet.EfficientNet, efficientnet.V2_S[::3], last=64, dropout=0.0, drop_path=0.0
    ),
    "regnet": partial(regnet.RegNet, 4, 24, 24.0, 2.5, 8, squeeze_excite=True),
    "convnext": partial(convnext.ConvNeXt, (1, 1), (32, 64), drop_path=0.0, layer_scale=0.1),
    "convnextv2": partial(convnext.ConvNeXt, (1, 1), (32, 64), drop_path=0.0, layer_scale=0.0),
    "nfnet": partial(nfnet.NFNet, (1, 1), dropout=0.0, drop_path=0.0, widths=(256, 256)),
    "vit": partial(vit.ViT, 8, 64, 2, 4),
    "vit_avg": partial(vit.ViT, 8, 64, 2, 4, pool="avg", layer_scale=0.1),
    "mixer": partial(mixer.Mixer, 8, 64, 2),
    "swin": partial(swin.Swin, (2, 2), 32, drop_path=0.0, window=4),
}
SIZES = {"alexnet": 64, "inception": 96, "inception_resnet": 128}
RATES = {"alexnet": 3e-4, "squeezenet": 5e-4, "nfnet": 1e-3}


def test_no_family_is_missing():
    def modules(makes):
        return {make.func if isinstance(make, partial) else make for make in makes}

    assert modules(SMALL.values()) >= modules(table.MODELS.values())


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SMALL)
def test_eight_images_are_learnt_by_heart(name):
    model = SMALL[name](num_classes=8, layers=Layers(bn_momentum=0.5))
    size = SIZES.get(name, 32)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, size, size, 3)).astype(np.float32)
    label = np.arange(8)
    optimizer = optax.adam(RATES.get(name, 3e-3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), image, train=False))()
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    if name == "squeezenet":
        # Its last ReLU would silence classes of such images for ever if they start below zero.
        params["classifier.1"]["bias"] += 1.0

    @jax.jit
    def step(params, batch_stats, state):
        def loss_fn(params):
            given = {"params": params, "batch_stats": batch_stats}
            logits, updated = model.apply(
                given, image, train=True, mutable=["batch_stats", "auxiliary"]
            )
            losses = [logits, *jax.tree.leaves(updated.get("auxiliary", {}))]
            each = [optax.softmax_cross_entropy_with_integer_labels(x, label) for x in losses]
            return sum(loss.mean() for loss in each), (each[0].mean(), updated)

        gradient, (loss, updated) = jax.grad(loss_fn, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), updated.get("batch_stats", {}), state, loss

    state, losses = optimizer.init(params), []
    for _ in range(400):
        params, batch_stats, state, loss = step(params, batch_stats, state)
        losses.append(float(loss))
        if losses[-1] < 0.05:
            break
    assert losses[0] > 1 and losses[-1] < 0.05
    apply = jax.jit(partial(model.apply, train=False))
    logits = apply({"params": params, "batch_stats": batch_stats}, image)
    assert jnp.isfinite(logits).all()
