"""Writes data/*.pth with torch, once: they test the reader where torch is not installed.

    python tests/weights/torch_files.py

`expected` gives from NumPy what is in two of them.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "data"
DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")


def expected() -> dict[str, np.ndarray]:
    """The arrays of the files, but for `half`, of the dtype bfloat16."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {"plain": base, "transposed": base.T, "part": base[1:3, ::2], "end": base[3]}
    arrays |= {"scalar": np.array(7), "empty": np.zeros((0, 3), np.float32)}
    arrays |= {"parameter": np.ones(2, np.float32), "bool": base > 3, "half": base}
    return arrays | {name: base.astype(name) for name in DTYPES}


def main() -> None:
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {"plain": base, "transposed": base.T, "part": base[1:3, ::2], "end": base[3]}
    state |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3), "bool": base > 3}
    state |= {"parameter": torch.nn.Parameter(torch.ones(2)), "half": base.to(torch.bfloat16)}
    state |= {name: base.to(getattr(torch, name)) for name in DTYPES}
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    with torch.no_grad():
        for number, tensor in enumerate(module.state_dict().values()):
            tensor.copy_(torch.full(tensor.shape, number))
    files = {
        "tensors": state,
        "module": {"epoch": 3, "state_dict": module.state_dict()},
        "code": torch.nn.Linear(1, 1),
        "numbers": {"epoch": 3, "w": torch.ones(1)},
    }
    for name, value in files.items():
        for kind in ("zip", "legacy"):
            path = FOLDER / f"{name}_{kind}.pth"
            torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")


if __name__ == "__main__":
    main()
