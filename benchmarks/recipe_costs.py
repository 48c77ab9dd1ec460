"""Compiles the steps of the published recipes for described hardware, and keeps what they cost.

    python benchmarks/recipe_costs.py [PATTERN ...] [--places=v5e-8,v4-32] [--minutes=60]

Needs XLA's compilers for TPU and GPU, and neither TPU nor GPU: see docs/step-study.md. Each step
takes a minute or several, in a process of its own, and becomes a row of
imagenet_jax/study/recipe_costs.csv at once; a row that is there is not made again. If a step does
not fit into memory, half of its images are tried.
"""

import argparse
import csv
import datetime
import fnmatch
import itertools
import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imagenet_jax.config.files import load_recipes
from imagenet_jax.study.recipe_costs import FILE, PLACES, compiled_steps, steps

LIMIT = 1800  # seconds for one compilation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="*", default=["*"])
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    args = parser.parse_args()
    start = time.monotonic()
    for step, place, batch in wanted(args.pattern, args.places.split(",")):
        if time.monotonic() - start > 60 * args.minutes:
            print("time is over; the same command goes on")
            return
        began = time.monotonic()
        row = compile_step(step, place, batch)
        if row:
            with FILE.open("a", newline="") as file:
                csv.writer(file).writerow([step, place, batch, *row])
        took = time.monotonic() - began
        print(f"{step} | {place} | {batch}: {row or 'failed'}, {took:.0f} s", flush=True)


def wanted(patterns: list[str], places: list[str]) -> list[tuple[str, str, int]]:
    """The steps that are not in the file yet."""
    found = {}
    recipes = load_recipes()
    for pattern in patterns:
        names = [name for name in recipes if fnmatch.fnmatch(name, f"*{pattern.strip('*')}*")]
        for name, place in itertools.product(names, places):
            config = recipes[name][0]
            found |= dict.fromkeys((s, place, batch) for s, batch, *_ in steps(config, place))
    return [key for key in found if key not in compiled_steps()]


def compile_step(step: str, place: str, batch: int) -> tuple | None:
    """Images on a device, seconds, date and compiler of the first that fits; None: failed."""
    topology = PLACES[place][0]
    while batch:
        command = [sys.executable, __file__, "--one", step, topology, str(batch)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            return None
        facts = json.loads(done.stdout.splitlines()[-1])
        if facts["seconds"] is not None:
            package = "libtpu" if topology[0] == "v" else "jax-cuda13-plugin"
            version = metadata.version(package)
            compiler = f"jax {metadata.version('jax')} {package} {version}"
            return (batch, f"{facts['seconds']:.6g}", str(datetime.date.today()), compiler)
        batch //= 2
    return None


def compile_one(step: str, topology: str, batch: int) -> None:
    """Prints what the step is predicted to take, as JSON; null if it does not fit."""
    from imagenet_jax.config.config import apply_overrides, base_config
    from imagenet_jax.study.study import prepare_compilers
    from imagenet_jax.study.topology import find_hardware
    from imagenet_jax.study.variant import study_variant

    prepare_compilers([topology])
    config = base_config()
    apply_overrides(config, dict(part.partition("=")[::2] for part in step.split()))
    hardware = find_hardware(topology)
    config.data.image_size = config.data.train_size  # learnt positions are of one size
    config.batch_size = batch * hardware.mesh.size
    config.duration, config.model.bn_group_size = "90 epochs", batch
    found = study_variant(config, hardware, partitioner="shard_map", batch_per_device=batch)
    print(json.dumps({"seconds": found.facts["predicted_step_seconds"]}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        os.environ["JAX_PLATFORMS"] = "cpu"
        compile_one(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
