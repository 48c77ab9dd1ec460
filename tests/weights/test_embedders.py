"""Files of networks of embeddings: what a run of embeddings takes over, and what a classifier."""

import numpy as np
import pytest
from oracles import face_embedder
from test_pretrained import random_variables

from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks.embedding import Embedding
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.program import make_program
from imagenet_jax.weights.files import write_safetensors
from imagenet_jax.weights.load import load_file
from imagenet_jax.weights.torch_layout import export_arrays

NAME = "mobilefacenet"


@pytest.fixture
def reference(tmp_path):
    """A file as facenet-pytorch's are, with a layer of classes behind; and what is in it."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    state = face_embedder(FACTS[NAME].reference).state_dict()
    behind = {"logits.weight": torch.ones(9, 128), "logits.bias": torch.ones(9)}
    path = tmp_path / "faces.pth"
    torch.save(state | behind, path)
    counted = ("num_batches_tracked",)
    return path, {key: x.numpy() for key, x in state.items() if not key.endswith(counted)}


def program_of(config, path, **fields):
    config.task, config.finetune.weights = "embedding", str(path)
    config.model.update(name=NAME, width=0, stem="")
    config.data.update(image_size=112, per_class=2)
    config.embedding.update(size=128, loss="arcface")
    config.update_from_flattened_dict(fields)
    task = Embedding(config, ("ann", "bob", "eve"))
    return make_program(task, make_mesh(), num_examples=32)


def test_a_run_of_embeddings_starts_with_all_but_the_classes(tiny_config, reference):
    path, arrays = reference
    found = export_arrays(starting_variables(program_of(tiny_config, path)))
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("embedding.size", 64, r"linear\.weight has the shape.*config\.embedding\.size = 128"),
        ("embedding.norm", False, r"unexpected bn\.weight.*config\.embedding\.norm = True"),
        ("data.image_size", 64, r"conv_6_dw\.conv\.weight has the shape .*7, 7\), expected"),
    ],
)
def test_embeddings_that_do_not_fit_are_said(tiny_config, reference, field, value, message):
    with pytest.raises(WeightsError, match=message):
        starting_variables(program_of(tiny_config, reference[0], **{field: value}))


def test_a_classifier_takes_over_what_is_before_the_embedding(reference):
    path, arrays = reference
    with pytest.raises(WeightsError, match="a network of embeddings, which has no classes"):
        load_file(path, NAME)
    found = load_file(path, NAME, may_lack_head=True)
    assert not found.has_head and found.image_size == 112
    expected = {key for key in arrays if not key.startswith(("linear.", "bn."))}
    assert export_arrays(found.variables).keys() == expected


@pytest.mark.parametrize("name", [NAME, "airbench94"])
def test_classes_are_counted_where_the_last_layer_has_no_bias(name, tmp_path):
    size = 48 if name == NAME else 32
    model = create_model(name, num_classes=7)
    write_safetensors(tmp_path / "w.safetensors", random_variables(model, size))
    found = load_file(tmp_path / "w.safetensors", name)
    assert found.model.num_classes == 7 and found.has_head
    assert found.image_size == (48 if name == NAME else None)
