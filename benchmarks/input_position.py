"""Memory of the host pipeline for a data set of ImageNet's size, and the start at any step.

    python benchmarks/input_position.py --dir=TFDS_DIR --name=DATA_SET [--json=FILE]

DATA_SET is any that `launch.py prepare` made; its records are repeated, by index arithmetic, to
the 1,281,167 examples of ImageNet, and read in batches of 256 at 224 x 224 pixels. Printed are
the memory of the process as it runs, the seconds from a fresh pipeline to the first batch at
step 500,000 (epoch 99), and whether that batch is, bit for bit, the one that a stream which was
started 20 steps earlier comes to.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imagenet_jax.config import base_config
from imagenet_jax.data import Split, open_split

EXAMPLES, BATCH, STEP = 1_281_167, 256, 500_000


class Repeated:
    """A source whose examples are those of another over and over."""

    def __init__(self, source):
        self._source = source
        self.class_names, self.fields = source.class_names, source.fields

    def __len__(self) -> int:
        return EXAMPLES

    def read(self, index):
        return self._source.read(np.asarray(index) % len(self._source))

    def describe(self, index):
        return self._source.describe(index % len(self._source))


def memory() -> dict[str, int]:
    """Resident memory of this process in MB, and the part of it that is no mapped file."""
    lines = dict(
        line.split(":")
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    megabytes = {name: int(lines[name].split()[0]) // 1000 for name in ("VmRSS", "RssAnon")}
    return {"resident": megabytes["VmRSS"], "anonymous": megabytes["RssAnon"]}


def digest(batch) -> str:
    return hashlib.sha256(b"".join(batch[name].tobytes() for name in sorted(batch))).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady running")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = base_config()
    config.batch_size, config.data.dir, config.data.name = BATCH, args.dir, args.name
    split = Split(config, Repeated(open_split(config, train=True).source), train=True)

    stream = split.train_batches(np.arange(BATCH), STEP - 20, STEP + 10**6)
    for _ in range(20):
        next(stream)
    passed = digest(next(stream))
    until, batches = time.perf_counter() + args.seconds, 0
    while time.perf_counter() < until:
        next(stream)
        batches += 1
    result = {"megabytes": memory(), "batches": batches, "batch_size": BATCH}
    stream.close()
    began = time.perf_counter()
    first = next(split.train_batches(np.arange(BATCH), STEP, STEP + 10))
    result["seconds_to_first_batch"] = time.perf_counter() - began
    result["same_batch"] = digest(first) == passed
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
