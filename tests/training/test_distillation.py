"""Learning from a teacher: one step against torch, and what holds for a run with one."""

import dataclasses
import os
import shutil
import signal
from functools import partial

import jax
import numpy as np
import optax
import pytest
from test_loop import StopAt
from test_one_step import Network

from imagenet_jax.config import base_config
from imagenet_jax.devices import parallel, sharding
from imagenet_jax.errors import CheckpointError, ConfigError, UserError
from imagenet_jax.models import vit
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.tasks import Classification, Multilabel, make_task, task_split
from imagenet_jax.training.checks import check_training
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import init_state, init_variables
from imagenet_jax.training.step import train_step
from imagenet_jax.training.teacher import Teacher
from imagenet_jax.training.teacher_weights import teacher_variables
from imagenet_jax.training.trained import trained_model

MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.2, 0.25)  # the teacher's


@pytest.mark.parametrize(
    ("kind", "temperature", "share"),
    [
        pytest.param("soft", 3.0, 0.7, marks=pytest.mark.slow),
        ("hard", 1.0, 0.5),
        pytest.param("soft", 1.0, 1.0, marks=pytest.mark.slow),
    ],
)
def test_a_step_is_that_of_torch_and_the_teacher_sees_the_same_mix(kind, temperature, share):
    """Of two linear networks behind norms, on mixed images of which one pair is padding."""
    torch = pytest.importorskip("torch")
    functional, rng = torch.nn.functional, np.random.default_rng(0)
    config = base_config()
    config.augment.update(pad=0, flip=False, mixup=1.0)
    config.loss.auxiliary = 0.0
    config.distill.update(weights="t", kind=kind, temperature=temperature, share=share)
    batch = {
        "image": rng.integers(0, 256, (6, 2, 2, 3), np.uint8),
        "label": np.array([0, 1, 2, 0, 1, 2], np.int32),
        "mask": np.array([True] * 4 + [False] * 2),
        **{"epoch": np.zeros(6, np.int32), "index": np.arange(6, dtype=np.int32)},
    }
    model, task = Network(), Classification.of_size(config, 3)
    own, other = (init_variables(jax.random.key(n), model=model, image_size=2) for n in range(2))
    other["params"]["fc"]["bias"] = rng.normal(size=3).astype(np.float32)
    other["batch_stats"]["bn"]["mean"] = rng.normal(size=12).astype(np.float32)
    state = init_state(jax.random.key(0), own, optimizer=optax.sgd(1.0), ema=False)
    teacher = Teacher("t", model, MEAN, STD, 2, False)
    step = partial(train_step, task=task, model=model, optimizer=optax.sgd(1.0), teacher=teacher)
    after, sums = jax.jit(step)(state, batch, other)

    key = jax.random.wrap_key_data(state.rng)
    weight = np.asarray(task.inputs(batch, key, state.step, train=True)[1].weight, np.float64)
    assert 0.01 < np.abs(weight[:4] - 0.5).max() < 0.49
    image = batch["image"] / 255.0
    swapped = image.reshape(3, 2, 2, 2, 3)[:, ::-1].reshape(image.shape)
    share_of = weight[:, None, None, None]
    mixed = torch.tensor(share_of * image + (1 - share_of) * swapped)

    def logits(mean, std, params, center, variance):
        x = ((mixed - torch.tensor(mean)) / torch.tensor(std)).reshape(6, -1)
        if center is None:
            center, variance = x.mean(0), x.var(0, unbiased=False)
        x = (x - center) / torch.sqrt(variance + 1e-5)
        return x @ params["kernel"] + params["bias"]

    def tensors(tree):
        return {name: torch.tensor(np.asarray(v, np.float64)) for name, v in tree.items()}

    mine = {n: v.requires_grad_() for n, v in tensors(own["params"]["fc"]).items()}
    statistics = tensors(other["batch_stats"]["bn"])
    normalization = config.augment.mean, config.augment.std
    said = logits(MEAN, STD, tensors(other["params"]["fc"]), statistics["mean"], statistics["var"])
    found = logits(*normalization, mine, None, None)[:4]
    said = said[:4].detach()
    target = weight[:, None] * np.eye(3)[batch["label"]]
    target += (1 - weight[:, None]) * np.eye(3)[batch["label"].reshape(3, 2)[:, ::-1].ravel()]
    labels = functional.cross_entropy(found, torch.tensor(target[:4]), label_smoothing=0.1)
    if kind == "hard":
        taught = functional.cross_entropy(found, said.argmax(-1))
    else:
        pair = (x / temperature for x in (found, said))
        own_log, other_log = (functional.log_softmax(x, -1) for x in pair)
        taught = functional.kl_div(own_log, other_log, reduction="batchmean", log_target=True)
        taught = taught * temperature**2
    loss = (1 - share) * labels + share * taught
    loss.backward()
    assert float(sums["loss"]) / 4 == pytest.approx(loss.item(), rel=1e-4)
    for name, value in mine.items():
        moved = np.asarray(state.params["fc"][name]) - np.asarray(after.params["fc"][name])
        np.testing.assert_allclose(moved, value.grad.numpy(), atol=1e-5)
        assert np.abs(moved).max() > 0.01


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_several_labels_are_learnt_class_by_class(kind):
    torch = pytest.importorskip("torch")
    own, other = np.random.default_rng(0).normal(0, 2, (2, 5, 4)).astype(np.float32)
    config = base_config()
    config.distill.update(kind=kind, temperature=2.0)
    found = Multilabel.of_size(config, 4).teacher_loss(own, other)
    own, other = torch.tensor(own), torch.tensor(other)
    if kind == "hard":
        target = (other.sigmoid() > 0.5).float()
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            own, target, reduction="none"
        )
    else:
        p, q = ((torch.stack([x, -x], -1) / 2).sigmoid() for x in (other, own))
        expected = 4 * (p * (p / q).log()).sum(-1)
    np.testing.assert_allclose(found, expected.mean(-1), rtol=1e-4)


@pytest.mark.slow
def test_each_head_of_a_distilled_vit_learns_from_its_own():
    torch = pytest.importorskip("torch")
    config, rng = base_config(), np.random.default_rng(0)
    config.loss.label_smoothing = 0.0
    config.distill.update(weights="t", kind="hard")
    task = Classification.of_size(config, 3)
    model = vit.ViT(4, 8, 1, 2, 3, distilled=True, layers=Layers(head_std=1.0))
    image = rng.normal(size=(4, 8, 8, 3)).astype(np.float32)
    variables = {"params": model.init(jax.random.key(0), image, False)["params"]}
    said, label = rng.normal(size=(4, 3)).astype(np.float32), np.array([0, 1, 2, 1])
    evaluated = model.apply(variables, image, train=False)

    def outcome(model, **fields):
        own = dataclasses.replace(task, config=config.copy_and_resolve_references())
        own.config.distill.update(fields)
        apply = partial(model.apply, variables, train=True, mutable=["distillation"])
        targets = task.inputs({"image": image, "label": label}, None, None, train=False)[1]
        return own, own.distilled(own.losses(apply, image, targets), said)

    own, found = outcome(model)
    first, updated = model.apply(variables, image, train=True, mutable=["distillation"])
    (second,) = jax.tree.leaves(updated)
    assert np.abs(first - second).max() > 0.1
    for name, logits, target in (("loss", first, label), ("teacher", second, said.argmax(-1))):
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(np.asarray(logits)), torch.tensor(target), reduction="none"
        )
        np.testing.assert_allclose(found.numerators[name], expected, rtol=1e-5)
        assert own.terms()[name].weight == 0.5
    np.testing.assert_allclose(found.outputs, evaluated, atol=1e-6)
    with pytest.raises(ConfigError, match=r"share = 1.* leaves one of the two heads"):
        outcome(model, share=1.0)


def taught(config, devices, steps=3, **fields):
    """A program, its state after some steps, and the variables of its teacher."""
    config = config.copy_and_resolve_references()
    for name, value in fields.items():
        config[name] = value
    mesh = sharding.make_mesh(config.sharding, jax.devices()[:devices])
    split = task_split(config, train=True)
    program = make_program(make_task(config, split), mesh, num_examples=split.num_examples)
    state, fixed = program.init_state(), teacher_variables(program)
    before = jax.device_get(fixed)
    step, rows = program.compile_train_step(), parallel.local_rows(mesh, config.batch_size)
    for batch in split.train_batches(rows, 0, steps):
        state, _ = step(state, parallel.put_batch(batch, mesh), *fixed)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(fixed))
    return program, state, fixed


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.xdist_group("distilled")
def test_it_does_not_depend_on_devices_and_micro_batches(loop_config, finished_run, monkeypatch):
    monkeypatch.setattr(sharding, "_SMALLEST_SHARDED", 1)
    loop_config.batch_size, loop_config.model.bn_group_size = 32, 1
    loop_config.augment.mixup = 0.5
    loop_config.distill.update(weights=str(finished_run), temperature=2.0)
    _, alone, _ = taught(loop_config, 1)
    ways = (
        {"sharding": "fsdp"},
        {"partitioner": "shard_map", "accumulate": 2},
        {"partitioner": "pmap"},
    )
    for way in ways:
        _, state, fixed = taught(loop_config, 8, **way)
        for one, other in zip(*map(jax.tree.leaves, (alone.params, state.params)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        spread = [not leaf.is_fully_replicated for leaf in jax.tree.leaves(fixed)]
        assert any(spread) == ("sharding" in way)
    loop_config.distill.share = 0.0
    _, without, _ = taught(loop_config, 1)
    assert np.abs(without.params["fc"]["kernel"] - alone.params["fc"]["kernel"]).max() > 1e-3


@pytest.mark.xdist_group("distilled")
def test_outputs_of_a_teacher_are_put_into_the_order_of_the_data(loop_config, finished_run):
    loop_config.distill.weights = str(finished_run)
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    order, outputs = np.array([3, 0, 1, 2, 9, 8, 7, 6, 5, 4]), []
    names = Classification.of_facts(loop_config, trained_model(finished_run, "best").task.facts())
    for task in (names, Classification(loop_config, tuple(names.class_names[n] for n in order))):
        program = make_program(task, sharding.make_mesh(), num_examples=40)
        (variables,) = teacher_variables(program)
        outputs.append(program.teacher.outputs(variables, image, loop_config.augment))
    np.testing.assert_allclose(outputs[1], outputs[0][:, order], atol=1e-6)
    loop_config.distill.image_size = 16
    larger = make_program(names, sharding.make_mesh(), num_examples=40).teacher
    resized = jax.image.resize(image, (2, 16, 16, 3), "bilinear")
    same = program.teacher.outputs(variables, resized, loop_config.augment)
    found = larger.outputs(variables, image, loop_config.augment)
    np.testing.assert_allclose(found, same, atol=1e-5)
    assert np.abs(found - outputs[1]).max() > 1e-3
    fewer = Classification.of_size(loop_config, 5)
    with pytest.raises(ConfigError, match="has 10 class names and the data set has 5"):
        teacher_variables(make_program(fewer, sharding.make_mesh(), num_examples=40))


@pytest.mark.slow
@pytest.mark.xdist_group("distilled")
def test_a_run_resumes_to_the_bit_with_the_same_teacher_only(loop_config, trained, tmp_path):
    """And its checkpoints do not hold the teacher: they are read without it."""
    teacher, workdir = trained(), tmp_path / "run"
    loop_config.duration, loop_config.ema_decay, loop_config.optim.sam = "6 steps", 0.9, 0.05
    loop_config.distill.weights = str(teacher)
    whole = train(loop_config, tmp_path / "whole")
    stop = StopAt(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(loop_config, workdir, tracking=[stop]) is None

    shutil.move(teacher, tmp_path / "away")
    shutil.copytree(tmp_path / "whole", teacher)
    with pytest.raises(CheckpointError, match="are not the weights that taught checkpoint 3"):
        train(loop_config, workdir)
    shutil.rmtree(teacher)
    assert trained_model(workdir, "latest").variables["params"]
    shutil.move(tmp_path / "away", teacher)
    assert train(loop_config, workdir)["state_sha256"] == whole["state_sha256"]
    loop_config.distill.temperature = 2.0
    with pytest.raises(CheckpointError, match=r"distill\.temperature: 1\.0 -> 2\.0"):
        train(loop_config, workdir)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": "resnet5O"}, "did you mean 'resnet50'"),
        ({"weights": "here.pth"}, "there is no file here.pth"),
        ({"weights": ".", "model": ""}, "no checkpoints in"),
    ],
)
def test_a_teacher_that_is_not_there_is_named_before_anything_starts(fields, message, loop_config):
    loop_config.distill.update(fields)
    with pytest.raises(UserError, match=message):
        check_training(loop_config, here=True)


def test_what_a_teacher_cannot_be_is_refused(loop_config, tmp_path):
    def make(**fields):
        config = loop_config.copy_and_resolve_references()
        config.distill.update(fields)
        return make_program(
            Classification.of_size(config, 1000), sharding.make_mesh(), num_examples=40
        )

    with pytest.raises(ConfigError, match=r"set config\.distill\.model to a name"):
        make(weights=str(tmp_path / "a.pth"))
    with pytest.raises(ConfigError, match=r"'vit_s16', and .* are of resnet18"):
        make(weights="resnet18", model="vit_s16")
    loop_config.stages, loop_config.data.image_size = ("10 steps: data.train_size=64",), 32
    with pytest.raises(ConfigError, match=r"deit_ti16 is for images of one size, .* 32, 64 pixels"):
        make(weights="deit_ti16")
    assert make(weights="deit_ti16", image_size=224).teacher.resizes
