"""What the train step of google/flax's ImageNet example costs, reckoned as `launch.py study` does.

    git clone --depth=1 https://github.com/google/flax CHECKOUT
    python benchmarks/flax_example.py --checkout=CHECKOUT [--topology=v5e:2x2] [--batch=128]

Their ResNet-50 and train_step, unchanged, in bfloat16, with the mapped axis that their pmap has;
through shard_map, as pmap takes no described devices. Compare with
`python launch.py study --config=configs/resnet50.py --topology=v5e:2x2 --partitioner=shard_map
--batch_per_device=128`.
"""

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from imagenet_jax.study.hlo import read_hlo
from imagenet_jax.study.operations import collectives, list_operations
from imagenet_jax.study.study import prepare_compilers
from imagenet_jax.study.topology import find_hardware

AXIS = "batch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkout", required=True, help="of github.com/google/flax")
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--batch", type=int, default=128, help="images per device")
    args = parser.parse_args()
    sys.path.insert(0, f"{args.checkout}/examples/imagenet")
    import models
    import train

    from configs import default

    prepare_compilers([args.topology])
    hardware = find_hardware(args.topology)
    mesh = jax.sharding.Mesh(hardware.mesh.devices, (AXIS,), axis_types=hardware.mesh.axis_types)
    config = default.get_config()
    model = train.create_model(model_cls=models.ResNet50, half_precision=True)
    rate = train.create_learning_rate_fn(config, 0.1, steps_per_epoch=1251)
    config.half_precision = False  # for the state: no dynamic loss scale, as on a TPU
    state = jax.eval_shape(
        lambda: train.create_train_state(jax.random.key(0), config, model, 224, rate)
    )
    count = args.batch * mesh.size
    batch = {
        "image": jax.ShapeDtypeStruct((count, 224, 224, 3), jnp.bfloat16),
        "label": jax.ShapeDtypeStruct((count,), jnp.int32),
    }
    spread = jax.shard_map(
        partial(train.train_step, learning_rate_fn=rate),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    whole, rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    step = jax.jit(spread, in_shardings=(whole, rows), out_shardings=whole)
    start = time.perf_counter()
    lowered = step.trace(state, batch).lower(lowering_platforms=(hardware.platform,))
    compiled = lowered.compile()
    module = read_hlo(compiled.as_text())
    operations = list_operations(module, hardware.chip)
    running = [instruction for instruction, _ in module.main()]
    facts = {
        "topology": args.topology,
        "compile_seconds": time.perf_counter() - start,
        "estimated_cycles": sum(instruction.cycles for instruction in running),
        "bytes_accessed": (compiled.cost_analysis() or {}).get("bytes accessed"),
        "hbm_bytes": sum(operation.bytes for operation in operations),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "fusions": sum(instruction.opcode == "fusion" for instruction in running),
        "copies": sum(instruction.opcode == "copy" for instruction in running),
        "collectives": collectives(operations, module),
        "step_seconds_without_collectives": sum(o.seconds for o in operations),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
