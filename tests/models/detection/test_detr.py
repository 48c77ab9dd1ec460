"""DETR: published counts, its transformer by torch's attention, matches by SciPy, its files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from torch_detectors import objects

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.models.detection import detection_method
from imagenet_jax.models.detection.detr_transformer import Transformer, sine_places
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.weights.detectors import coco_classes, load_detector
from imagenet_jax.weights.torch_layout import export_arrays

SIZE, CLASSES, QUERIES = 96, 5, 100
NORMS = 53_120  # scales and shifts of ResNet-50's frozen norms, which are no parameters in its code


def test_parameters_are_as_many_as_published():
    """41,524,768 in its code, of 91 categories."""
    model = create_detector("resnet50", "detr", num_classes=91, frozen_norm=True)
    assert count_params(variable_shapes(model, 128)) == 41_524_768 + NORMS


def places_of(torch, height, width, channels):
    """PositionEmbeddingSine of its code, without a mask."""
    ones, half = torch.ones(height, width), channels // 2
    rows, columns = ones.cumsum(0), ones.cumsum(1)
    rows, columns = (x / (x.max() + 1e-6) * 2 * np.pi for x in (rows, columns))
    wave = 10_000 ** (2 * (torch.arange(half) // 2) / half)
    both = []
    for x in (rows[..., None] / wave, columns[..., None] / wave):
        both.append(torch.stack([x[..., 0::2].sin(), x[..., 1::2].cos()], -1).flatten(2))
    return torch.cat(both, -1).reshape(-1, channels)


def test_what_it_says_is_what_torchs_attention_makes_of_it():
    """Small, with random weights: encoder, decoder, and the norm behind each of its layers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    channels, heads, height, width = 32, 4, 3, 5
    model = Transformer(depth=2, heads=heads, inner=64, layers=Layers(dtype=jnp.float32))
    random = np.random.default_rng(0)
    x = random.normal(size=(2, height, width, channels)).astype(np.float32)
    queries = random.normal(size=(7, channels)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, queries, train=False))
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape), shapes)
    arrays = {k: torch.tensor(v, dtype=torch.float64) for k, v in export_arrays(variables).items()}

    def attend(name, q, k, v):
        theirs = torch.nn.MultiheadAttention(channels, heads, batch_first=True).double()
        own = {key.removeprefix(f"{name}."): a for key, a in arrays.items() if f"{name}." in key}
        own = {key.replace("in_proj.", "in_proj_"): value for key, value in own.items()}
        theirs.load_state_dict(own)
        return theirs(q, k, v, need_weights=False)[0]

    def norm(name, x):
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, (channels,), weight, bias, 1e-5)

    def dense(name, x):
        return torch.nn.functional.linear(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    memory = torch.tensor(x, dtype=torch.float64).reshape(2, -1, channels)
    places = places_of(torch, height, width, channels).double()[None]
    np.testing.assert_allclose(sine_places(height, width, channels), places[0], atol=1e-6)
    for number in range(2):
        name = f"encoder.layers.{number}"
        with_places = memory + places
        y = attend(f"{name}.self_attn", with_places, with_places, memory)
        memory = norm(f"{name}.norm1", memory + y)
        y = dense(f"{name}.linear2", dense(f"{name}.linear1", memory).relu())
        memory = norm(f"{name}.norm2", memory + y)
    embedded = torch.tensor(queries, dtype=torch.float64)[None].expand(2, -1, -1)
    found, each = torch.zeros_like(embedded), []
    for number in range(2):
        name = f"decoder.layers.{number}"
        there = found + embedded
        found = norm(f"{name}.norm1", found + attend(f"{name}.self_attn", there, there, found))
        y = attend(f"{name}.multihead_attn", found + embedded, memory + places, memory)
        found = norm(f"{name}.norm2", found + y)
        y = dense(f"{name}.linear2", dense(f"{name}.linear1", found).relu())
        found = norm(f"{name}.norm3", found + y)
        each.append(norm("decoder.norm", found))
    said = jax.jit(lambda v, x, q: model.apply(v, x, q, train=False))(variables, x, queries)
    assert said.shape == (2, 1, 7, channels)
    np.testing.assert_allclose(said[:, 0], each[-1].detach(), rtol=1e-4, atol=1e-4)


def outputs(images=2, layers=2):
    random = np.random.default_rng(0)
    boxes = random.uniform(0.1, 0.9, (images, layers, QUERIES, 4))
    return {
        "cls_logits": random.normal(0, 2, (images, layers, QUERIES, CLASSES + 1)).astype(
            np.float32
        ),
        "boxes": boxes.astype(np.float32),
    }


def giou(one, other):
    """Of pairs of boxes [..., 4], by their centres and sides."""
    (low, high), (other_low, other_high) = (
        (x[..., :2] - x[..., 2:] / 2, x[..., :2] + x[..., 2:] / 2) for x in (one, other)
    )
    common = np.prod(np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0), -1)
    union = np.prod(one[..., 2:], -1) + np.prod(other[..., 2:], -1) - common
    around = np.prod(np.maximum(high, other_high) - np.minimum(low, other_low), -1)
    return common / union - (around - union) / around


def test_losses_are_those_of_the_paper_with_scipys_matches():
    method, out = detection_method("detr", CLASSES), outputs()
    boxes, classes = objects((7, 0), 9, SIZE, CLASSES)
    parts = jax.jit(method.losses, static_argnums=4)(out, boxes, classes, None, SIZE)
    expected = {name: np.zeros(2) for name in parts}
    for image in range(2):
        there = classes[image] >= 0
        low, high = np.float64(boxes[image][there]).reshape(-1, 2, 2).transpose(1, 0, 2) / SIZE
        wanted, labels = np.concatenate([(low + high) / 2, high - low], 1), classes[image][there]
        for layer in range(2):
            logits = np.float64(out["cls_logits"][image, layer])
            found = np.float64(out["boxes"][image, layer])
            chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            apart = np.abs(wanted[:, None] - found[None]).sum(-1)
            overlap = giou(wanted[:, None], found[None])
            cost = 5 * apart - 2 * overlap - chance[:, labels].T
            rows, columns = linear_sum_assignment(cost)
            target, weight = np.full(QUERIES, CLASSES), np.full(QUERIES, 0.1)
            target[columns], weight[columns] = labels[rows], 1
            entropy = -np.log(chance[np.arange(QUERIES), target])
            expected["loss_ce"][image] += (weight * entropy).sum()
            expected["loss_bbox"][image] += 5 * apart[rows, columns].sum()
            expected["loss_giou"][image] += 2 * (1 - overlap[rows, columns]).sum()
    for name, part in parts.items():
        np.testing.assert_allclose(part, expected[name], rtol=1e-4, atol=1e-5)
    assert parts["loss_bbox"][1] == parts["loss_giou"][1] == 0 < parts["loss_ce"][1]
    over = method.denominators(None, classes, jnp.ones(2, bool))
    assert over["all_objects"] == 7
    assert float(over["queries"]) == pytest.approx(7 + 0.1 * (2 * QUERIES - 7))


def test_boxes_that_are_no_numbers_end_and_too_many_objects_are_refused():
    """A run that diverges must be stopped by its guard, not hang in the algorithm."""
    method, out = detection_method("detr", CLASSES), outputs()
    boxes, classes = objects((3, 2), 4, SIZE, CLASSES)
    broken = {**out, "boxes": np.full_like(out["boxes"], np.nan)}
    parts = jax.jit(method.losses, static_argnums=4)(broken, boxes, classes, None, SIZE)
    assert np.isnan(parts["loss_bbox"]).all()
    many = np.zeros((2, QUERIES + 1, 4), np.float32), np.full((2, QUERIES + 1), -1)
    with pytest.raises(ConfigError, match=r"max_objects = 101: detr tells 100 boxes"):
        method.losses(out, *many, None, SIZE)


def test_each_query_tells_its_best_class_without_suppression():
    method, out = detection_method("detr", CLASSES), outputs(images=1, layers=1)
    found = jax.jit(method.detections, static_argnums=(1, 2))(out, SIZE, method.choice)
    logits = out["cls_logits"][0, 0]
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = np.argsort(-chance[:, :-1].max(1))
    np.testing.assert_allclose(found.scores[0], chance[:, :-1].max(1)[best], rtol=1e-5)
    assert found.classes[0].tolist() == chance[:, :-1].argmax(1)[best].tolist()
    assert (np.asarray(found.boxes) >= 0).all() and (np.asarray(found.boxes) <= SIZE).all()


@pytest.mark.slow
def test_its_own_files_are_read_for_cocos_classes(tmp_path):
    torch = pytest.importorskip("torch")
    model = create_detector("resnet18", "detr", num_classes=91, features=32)
    random = np.random.default_rng(0)
    shapes = variable_shapes(model, 64)
    variables = jax.tree.map(lambda leaf: np.abs(random.normal(1, 0.1, leaf.shape)), shapes)
    arrays = export_arrays(variables)
    state = {
        name.replace("backbone.body.", "backbone.0.body.").replace("in_proj.", "in_proj_"): array
        for name, array in arrays.items()
    }
    assert "transformer.decoder.layers.5.multihead_attn.in_proj_weight" in state
    assert state["query_embed.weight"].shape == (100, 32)
    state = {name: torch.tensor(np.float32(array)) for name, array in state.items()}
    torch.save({"model": state}, tmp_path / "detr.pth")
    loaded = load_detector(tmp_path / "detr.pth", model.clone(num_classes=3))
    assert loaded.class_names == tuple(coco_classes().values()) and loaded.model.num_classes == 80
    kept = [*coco_classes(), 91]
    bias = loaded.variables["params"]["class_embed"]["bias"]
    np.testing.assert_allclose(bias, arrays["class_embed.bias"][kept], rtol=1e-6)
