"""One process of a job: writes the rows that it loads of some steps' batches to a file.

python one_process.py FOLDER OUT.npz START ..., in the environment that launch.py reads
"""

import os
import sys

import jax
import numpy as np

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.devices.sharding import make_mesh

STEPS = 3


def main(folder: str, out: str, *starts: str) -> None:
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        count, number = (int(os.environ[f"JAX_{key}"]) for key in ("NUM_PROCESSES", "PROCESS_ID"))
        jax.distributed.initialize(num_processes=count, process_id=number)
    config = base_config()
    config.batch_size, config.data.name, config.data.image_size = 8, f"folder:{folder}", 8
    config.data.eval_split, config.data.policy = "train", "randaugment"
    split, mesh = open_split(config, train=True), make_mesh()
    rows = local_rows(mesh, 8)
    arrays = {"rows": rows}
    for start in map(int, starts):
        for step, batch in enumerate(split.train_batches(rows, start, start + STEPS), start):
            arrays |= {f"train {step} {name}": array for name, array in batch.items()}
    evaluation = open_split(config, train=False)
    for step, batch in enumerate(evaluation.eval_batches(rows, 8)):
        arrays |= {f"eval {step} {name}": array for name, array in batch.items()}
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
