"""What the files of an export say of photos: accuracy, and how many answers are those of the model.

    python benchmarks/exported_accuracy.py EXPORT PHOTOS --model=efficientnet_lite0

EXPORT is a folder of `launch.py export`; PHOTOS one of images whose names begin with the name of
their class, as n01440764_tench.JPEG. Each file is run by its own runtime.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from imagenet_jax import Predictor
from imagenet_jax.deploy.comparison import in_parts
from imagenet_jax.deploy.folder import FORMATS
from imagenet_jax.deploy.formats import TABLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    facts = json.loads((args.export / "export.json").read_text())
    files = sorted(path for path in args.photos.rglob("*") if path.is_file())
    names = facts["class_names"]
    labels = np.array([names.index(path.name.partition("_")[0]) for path in files])
    predictor = Predictor.pretrained(args.model)
    pixels = predictor.preprocess(files)
    ours = predictor.outputs_of(pixels).argmax(1)
    print(f"{len(files)} photos, {facts['model']}")
    print(f"{'this program':16} {(ours == labels).sum():4} right")
    for name in facts["formats"]:
        if TABLE[name].read is None:
            continue
        run = TABLE[name].read(args.export / FORMATS[name].file)
        found = in_parts(run, pixels, 25)["logits"].argmax(1)
        right, same = (found == labels).sum(), (found == ours).sum()
        print(f"{name:16} {right:4} right, {same:4} answers as of this program", flush=True)


if __name__ == "__main__":
    main()
