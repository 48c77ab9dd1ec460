"""What each augmentation costs on the host, and what it would cost in the step on a TPU.

    python benchmarks/augmentations.py [--topology=v5e:2x2] [--json=FILE]

Host: CPU microseconds per image of 224 x 224 pixels, one thread. Step: microseconds per image of
a batch of 128 on one chip, from the cycles that XLA's TPU compiler estimates for the scheduled
program at 1.5 GHz; no TPU is needed, only `pip install libtpu`. Without libtpu that column is left
out. For comparison: the same compiler estimates 106.6 M cycles, 555 microseconds per image, for the
whole step of the flax ImageNet example (ResNet-50, bfloat16, batch 128).
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from PIL import Image

from imagenet_jax import augment
from imagenet_jax.config import base_config
from imagenet_jax.data.images import policies
from imagenet_jax.data.images.image_ops import OPERATIONS

SIZE, BATCH, CLOCK_HZ = 224, 128, 1.5e9
STEP = {
    "normalize alone": {},
    "flip": {"flip": True},
    "pad 8": {"pad": 8},
    "brightness, contrast, saturation": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3},
    "hue": {"hue": 0.1},
    "grayscale": {"grayscale": 0.5},
    "solarize": {"solarize": 0.5},
    "blur, sigma 2": {"blur": 0.5},
    "noise": {"noise": 0.1},
    "three_augment": {"three_augment": True},
    "erase": {"erase": 0.5},
    "erase, pixel": {"erase": 0.5, "erase_mode": "pixel"},
    "mixup": {"mixup": 0.8},
    "cutmix": {"cutmix": 1.0},
}


def host_microseconds(change: Callable[[int], object], count: int = 100) -> float:
    """CPU time of change(0), change(1), ..."""
    change(0)
    start = time.process_time()
    for number in range(count):
        change(number)
    return (time.process_time() - start) / count * 1e6


def host_costs() -> dict[str, float]:
    """Of the operations and the policies that run on the host."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    picture, data = Image.fromarray(pixels), base_config().data
    magnitudes = {"Posterize": 4, "Rotate": 20, "TranslateX": 20, "TranslateY": 20, "Solarize": 128}
    costs = {
        name: host_microseconds(lambda _, n=name: OPERATIONS[n](picture, magnitudes.get(n, 0.3)))
        for name in OPERATIONS
        if name != "Identity"
    }
    for policy in policies.POLICIES:
        data.policy, data.policy_magnitude = policy, 9
        costs[policy] = host_microseconds(lambda i: policies.augment(pixels, data, 0, 0, i))
    return costs


def rotate(image: jax.Array, angle: jax.Array) -> jax.Array:
    """What a rotation in the step would be: a gather of every pixel."""
    rows, columns = jnp.mgrid[:SIZE, :SIZE] - SIZE / 2
    y = jnp.cos(angle) * rows - jnp.sin(angle) * columns + SIZE / 2
    x = jnp.sin(angle) * rows + jnp.cos(angle) * columns + SIZE / 2
    return image.at[y.astype(jnp.int32), x.astype(jnp.int32)].get(mode="fill", fill_value=0)


def equalize(image: jax.Array, _: jax.Array) -> jax.Array:
    """What an equalization in the step would be: a histogram and a table look-up per channel."""

    def channel(levels: jax.Array) -> jax.Array:
        counts = jnp.zeros(256, jnp.int32).at[levels.reshape(-1)].add(1)
        table = (jnp.cumsum(counts) * 255 // levels.size).astype(jnp.uint8)
        return table[levels]

    return jax.vmap(channel, -1, -1)(image)


def programs() -> dict[str, Callable[[dict[str, jax.Array]], object]]:
    """Programs over a batch, in the step's own code or, for two, as they would be there."""
    made = {}
    for name, fields in STEP.items():
        config = base_config().augment
        config.flip = False
        config.update(fields)
        made[name] = lambda batch, c=config: augment.train_inputs(batch, jax.random.key(0), 0, c)
    for name, change in (("Rotate", rotate), ("Equalize", equalize)):
        made[name] = lambda batch, f=change: jax.vmap(f)(
            batch["image"], batch["index"].astype(jnp.float32)
        )
    return made


def step_microseconds(topology: str) -> dict[str, float]:
    """Estimated for one chip of a TPU that is not there."""
    device = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = {
        "image": ((BATCH, SIZE, SIZE, 3), np.uint8),
        "label": ((BATCH,), np.int32),
        "mask": ((BATCH,), np.bool_),
        "index": ((BATCH,), np.int32),
        "epoch": ((BATCH,), np.int32),
    }
    batch = {k: jax.ShapeDtypeStruct(s, d, sharding=sharding) for k, (s, d) in shapes.items()}
    costs = {}
    for name, program in programs().items():
        traced = jax.jit(program).trace(batch)
        text = traced.lower(lowering_platforms=("tpu",)).compile().as_text()
        entry = text[text.index("\nENTRY ") :]
        cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', entry)))
        costs[name] = cycles / CLOCK_HZ / BATCH * 1e6
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {"host": host_costs()}
    try:
        result["step"] = step_microseconds(args.topology)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        print(f"no column for the step: {error}", file=sys.stderr)
    names = dict.fromkeys([*result["host"], *result.get("step", {})])
    print(f"{'us per image':34} {'host':>8} {'step, ' + args.topology:>16}")
    for name in names:
        cells = [result.get(place, {}).get(name) for place in ("host", "step")]
        host, step = ("" if value is None else f"{value:,.1f}" for value in cells)
        print(f"{name:34} {host:>8} {step:>16}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
