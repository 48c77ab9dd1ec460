"""What the train steps of peers cost, reckoned as `launch.py study` does.

    git clone --depth=1 https://github.com/google/flax FLAX
    python benchmarks/peer_steps.py flax --checkout=FLAX --topology=v5e:2x2 --batch=128
    git clone --depth=1 https://github.com/google-research/big_vision BIG_VISION
    python benchmarks/peer_steps.py big_vision --checkout=BIG_VISION --topology=v5e:2x2 --batch=128

`flax`: the ResNet-50 and the train_step of Flax's ImageNet example, unchanged, in bfloat16.
`big_vision`: the ViT-S/16 of configs/vit_s16_i1k.py with the update of its train.py, less what that
only logs; needs einops. --dtype=float32, its default, is what the published run had;
--no-mixup compiles it without, as `--config.augment.mixup=0` ours.

Both through shard_map with a mapped axis, as pmap takes no described devices; --partitioner=jit
compiles them as one program for the global batch, without their means over the axis. With
--topology= they also run, on the attached devices. Compare with
`python launch.py study --config=configs/resnet50.py` (or vit_s16.py) `--topology=v5e:2x2
--partitioner=shard_map --batch_per_device=128`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from imagenet_jax.study.chips import collective_seconds
from imagenet_jax.study.hlo import read_hlo
from imagenet_jax.study.measure import time_steps
from imagenet_jax.study.operations import collectives, list_operations
from imagenet_jax.study.study import prepare_compilers
from imagenet_jax.study.topology import Hardware, find_hardware

AXIS, SIZE, CLASSES = "batch", 224, 1000
# A step, what makes its state, and a batch.
Peer = tuple[Callable[..., Any], Callable[[], Any], dict[str, jax.ShapeDtypeStruct]]


def flax_example(checkout: str, count: int, dtype: str) -> Peer:
    """For batches of `count` images."""
    sys.path.insert(0, f"{checkout}/examples/imagenet")
    import models
    import train

    from configs import default

    config = default.get_config()
    # As its create_model does on a TPU; on other machines that would choose float16.
    model = models.ResNet50(num_classes=CLASSES, dtype=jnp.dtype(dtype))
    rate = train.create_learning_rate_fn(config, 0.1, steps_per_epoch=1251)
    config.half_precision = False  # for the state: no dynamic loss scale, as on a TPU

    def init() -> Any:
        return train.create_train_state(jax.random.key(0), config, model, SIZE, rate)

    batch = {
        "image": jax.ShapeDtypeStruct((count, SIZE, SIZE, 3), dtype),
        "label": jax.ShapeDtypeStruct((count,), jnp.int32),
    }
    return partial(train.train_step, learning_rate_fn=rate), init, batch


def big_vision(checkout: str, count: int, dtype: str, mixup: bool) -> Peer:
    """For batches of `count` images."""
    sys.path.insert(0, checkout)
    from big_vision import utils
    from big_vision.models import vit

    model = vit.Model(
        CLASSES, variant="S/16", rep_size=True, pool_type="gap", posemb="sincos2d", dtype_mm=dtype
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(mu_dtype="bfloat16"),
        optax.scale(1e-3),
        optax.add_decayed_weights(1e-4),
        optax.scale(-1.0),
    )

    def init() -> dict[str, Any]:
        params = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))["params"]
        return {"params": params, "opt": optimizer.init(params), "rng": jax.random.PRNGKey(0)}

    def step(
        state: dict[str, Any], batch: dict[str, jax.Array]
    ) -> tuple[dict[str, Any], jax.Array]:
        rng, mix, dropout = jax.random.split(state["rng"], 3)
        share = jax.random.beta(mix, 0.2, 0.2)
        share = jnp.maximum(share, 1 - share)
        mixed = batch
        if mixup:
            mixed = jax.tree.map(lambda x: share * x + (1 - share) * jnp.roll(x, 1, 0), batch)

        def loss_fn(params: Any) -> jax.Array:
            rngs = {"dropout": dropout}
            logits, _ = model.apply({"params": params}, mixed["image"], train=True, rngs=rngs)
            return utils.softmax_xent(logits=logits, labels=mixed["label"])

        loss, gradient = jax.value_and_grad(loss_fn)(state["params"])
        gradient = jax.lax.pmean(gradient, AXIS)
        updates, opt = optimizer.update(gradient, state["opt"], state["params"])
        return {
            "params": optax.apply_updates(state["params"], updates),
            "opt": opt,
            "rng": rng,
        }, loss

    batch = {
        "image": jax.ShapeDtypeStruct((count, SIZE, SIZE, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((count, CLASSES), jnp.float32),
    }
    return step, init, batch


def over_devices(step: Callable[..., Any], mesh: jax.sharding.Mesh) -> Callable[..., Any]:
    """One device's share of a step on each."""
    return jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        check_vma=False,
    )


def whole_batch(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of the global batch, which needs no means over devices."""

    def whole(*args: Any) -> Any:
        with mock.patch.object(jax.lax, "pmean", lambda tree, *_, **__: tree):
            return step(*args)

    return whole


def reckon(
    peer: Peer, hardware: Hardware, batch_per_device: int, partitioner: str
) -> dict[str, Any]:
    """Compiles the step of a peer, and runs it on attached devices; facts as in `study.variant`."""
    function, init, batch = peer
    types = hardware.mesh.axis_types[:1]
    mesh = jax.sharding.Mesh(hardware.mesh.devices.reshape(-1), (AXIS,), axis_types=types)
    spread = whole_batch(function) if partitioner == "jit" else over_devices(function, mesh)
    whole, rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    step = jax.jit(spread, in_shardings=(whole, rows), out_shardings=whole)
    start = time.perf_counter()
    platforms = (hardware.platform,) if hardware.platform else None
    lowered = step.trace(jax.eval_shape(init), batch).lower(lowering_platforms=platforms)
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    measured = {}
    if hardware.platform is None:
        state = jax.jit(init, out_shardings=whole)()
        measured = {"measured": run(compiled, state, noise(batch, rows))}
    module = read_hlo(compiled.as_text())
    operations = list_operations(module, hardware.chip)
    running = module.main()
    shared = collectives(operations, module)
    predicted = sum(operation.seconds for operation in operations)
    for kind, sums in shared.items():
        predicted += collective_seconds(hardware.chip, kind, sums["bytes"], mesh.size)
    return {
        "topology": hardware.name,
        "partitioner": partitioner,
        "batch_per_device": batch_per_device,
        "compile_seconds": seconds,
        "estimated_cycles": sum(instruction.cycles * times for instruction, times in running),
        "bytes_accessed": (compiled.cost_analysis() or {}).get("bytes accessed"),
        "hbm_bytes": sum(operation.bytes for operation in operations),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "fusions": sum(instruction.opcode == "fusion" for instruction, _ in running),
        "copies": sum(instruction.opcode == "copy" for instruction, _ in running),
        "collectives": shared,
        "predicted_step_seconds": predicted,
        "predicted_images_per_second_per_chip": batch_per_device / predicted,
    } | measured


def noise(batch: dict[str, jax.ShapeDtypeStruct], rows: NamedSharding) -> dict[str, jax.Array]:
    """What looks like images that are normalised, all of class 0."""
    image = np.random.default_rng(0).standard_normal(batch["image"].shape, np.float32)
    label = np.zeros(batch["label"].shape, batch["label"].dtype)
    if label.ndim == 2:
        label[:, 0] = 1
    made = {"image": image.astype(batch["image"].dtype), "label": label}
    return jax.device_put(made, rows)


def run(compiled: jax.stages.Compiled, state: Any, batch: dict[str, jax.Array]) -> dict[str, float]:
    """Times the steps as `study` does its own."""

    def step() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch)
        return state, metrics

    return time_steps(step, jax.block_until_ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peer", choices=["flax", "big_vision"])
    parser.add_argument("--checkout", required=True, help="of the peer's repository")
    parser.add_argument("--topology", default="v5e:2x2", help='"" to run on attached devices')
    parser.add_argument("--batch", type=int, default=128, help="images per device")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--partitioner", default="shard_map", choices=["shard_map", "jit"])
    parser.add_argument("--mixup", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, help="write the facts there as well")
    args = parser.parse_args()
    prepare_compilers([args.topology])
    hardware = find_hardware(args.topology)
    make = {"flax": flax_example, "big_vision": partial(big_vision, mixup=args.mixup)}[args.peer]
    peer = make(args.checkout, args.batch * hardware.mesh.size, args.dtype)
    facts = json.dumps(reckon(peer, hardware, args.batch, args.partitioner), indent=2)
    if args.json:
        args.json.write_text(facts)
    print(facts)


if __name__ == "__main__":
    main()
