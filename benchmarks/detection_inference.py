"""Detectors on the CPU at hand: this project's beside torchvision's eager ones, in turn.

    pip install torch==2.13.0 && pip install --no-deps -r requirements-oracles.txt
    python benchmarks/detection_inference.py --runs=15

Random weights, one photo of noise, from pixels to boxes. Scores have to be above 0.99, so nothing
is found: torchvision's suppression of boxes is compiled, and not there beside a torch that it was
not built for. Prints the median of each and their ratio, and with --json all times.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

LEAST = 0.99
# Of each: torchvision's name, ours, pixels.
CASES = {
    "fcos": ("fcos_resnet50_fpn", ("resnet50", "fcos", {}), 416),
    "ssdlite": (
        "ssdlite320_mobilenet_v3_large",
        ("mobilenet_v3_large", "ssdlite", {"reduced_tail": True}),
        320,
    ),
}


def theirs(name: str, size: int) -> Callable[[], Any]:
    """A function that finds boxes in an image, by torchvision."""
    import torch
    from oracles import torchvision

    sizes = {} if name.startswith("ssd") else {"min_size": size, "max_size": size}
    how = {"weights": None, "weights_backbone": None, **sizes}
    model = torchvision().models.get_model(name, **how).eval()
    model.score_thresh = LEAST
    image = torch.rand(3, size, size)

    def run() -> Any:
        with torch.inference_mode():
            return model([image])

    return run


def ours(case: tuple[str, str, dict[str, Any]], size: int) -> Callable[[], Any]:
    """The same by this project."""
    import jax
    import numpy as np

    from imagenet_jax.models import create_detector

    backbone, head, options = case
    model = create_detector(backbone, head, num_classes=91, **options)
    image = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))
    choice = dataclasses.replace(model.method.choice, score=LEAST)

    @jax.jit
    def find(variables: Any, image: Any) -> Any:
        return model.method.detections(model.apply(variables, image, train=False), size, choice)

    return lambda: jax.block_until_ready(find(variables, image))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write all times to this file")
    args = parser.parse_args()
    found = {}
    for name in args.case or CASES:
        their_name, case, size = CASES[name]
        sides = {"torchvision": theirs(their_name, size), "imagenet_jax": ours(case, size)}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(args.runs + 2):
            for side, run in sides.items():
                start = time.perf_counter()
                run()
                if number >= 2:  # compiled, and warm
                    times[side].append(time.perf_counter() - start)
        medians = {side: 1e3 * statistics.median(values) for side, values in times.items()}
        ratio = medians["torchvision"] / medians["imagenet_jax"]
        parts = ", ".join(f"{side} {value:.1f} ms" for side, value in medians.items())
        print(f"{name} at {size} pixels: {parts}; {ratio:.2f} times as fast")
        found[name] = times
    if args.json:
        args.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
