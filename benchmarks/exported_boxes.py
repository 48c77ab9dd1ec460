"""What the files of an exported detector find: average precision on the run's evaluation split.

    python benchmarks/exported_boxes.py WORKDIR --images=200

The export is WORKDIR/export, of `launch.py export`. Each file is run by its own runtime. Unless
photos were named, the ranges of integers come from the 33rd to the 160th of these images.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from imagenet_jax import Predictor
from imagenet_jax.deploy.comparison import in_parts
from imagenet_jax.deploy.folder import FORMATS
from imagenet_jax.deploy.formats import TABLE
from imagenet_jax.deploy.program import program_of
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.tasks import task_split

_AT_ONCE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    trained = Predictor.from_run(args.workdir).trained
    split = task_split(trained.config, train=False)
    batch = next(split.eval_batches(np.arange(args.images), args.images))
    program = jax.jit(program_of(trained))

    @jax.jit
    def run_rule(outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return trained.task.suppressions()[""](RawBoxes(**outputs))._asdict()

    def report(name: str, outputs: Mapping[str, np.ndarray]) -> None:
        if "raw_boxes" in outputs:
            parts = (
                {key: array[k : k + _AT_ONCE] for key, array in outputs.items()}
                for k in range(0, args.images, _AT_ONCE)
            )
            told = [run_rule(part) for part in parts]
            names = ("boxes", "scores", "classes")
            outputs = {key: np.concatenate([one[key] for one in told]) for key in names}
        meter = trained.task.meter(split)
        meter.add({f"predicted_{key}": array for key, array in outputs.items()} | batch)
        found = meter.metrics()
        numbers = ", ".join(f"{key} {found[key]:.2%}" for key in ("map", "map50", "map75"))
        print(f"{name:16} {numbers}", flush=True)

    def ours(images: np.ndarray) -> Mapping[str, np.ndarray]:
        return jax.device_get(program(trained.variables, images))

    report("this program", in_parts(ours, batch["image"], _AT_ONCE))
    facts = json.loads((args.workdir / "export" / "export.json").read_text())
    for name in facts["formats"]:
        if TABLE[name].read is not None:
            run = TABLE[name].read(args.workdir / "export" / FORMATS[name].file)
            report(name, in_parts(run, batch["image"], _AT_ONCE))


if __name__ == "__main__":
    main()
