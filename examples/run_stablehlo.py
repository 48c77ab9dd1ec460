"""Runs a model that `launch.py export` wrote; needs jax, numpy and flatbuffers alone.

    pip install jax flatbuffers
    python run_stablehlo.py FOLDER IMAGES.npy

IMAGES.npy holds images as FOLDER/export.json says under "input", [N, S, S, 3].
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export

folder, images = Path(sys.argv[1]), np.load(sys.argv[2])
facts = json.loads((folder / "export.json").read_text())
program = export.deserialize((folder / facts["formats"]["stablehlo"]["file"]).read_bytes())
outputs = jax.device_get(jax.jit(program.call)(images))
for number in range(len(images)):
    if "logits" in outputs:
        logits, names = outputs["logits"][number], facts.get("titles", facts["class_names"])
        several = facts["task"] == "multilabel"
        best = np.flatnonzero(logits > 0) if several else [logits.argmax()]
        print(number, ", ".join(names[label] for label in best))
    else:
        print(number, {name: array[number].tolist() for name, array in outputs.items()})
