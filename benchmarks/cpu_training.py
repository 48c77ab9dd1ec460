"""Training steps on the CPU at hand: this project's beside PyTorch's, in turn.

    pip install torch==2.13.0 && pip install --no-deps -r requirements-oracles.txt
    python benchmarks/cpu_training.py --model=resnet50 --model=vit_s16

Forward, backward and update in float32 on a batch of noise. This project's step is the one that
`train` runs: it also flips and normalises images of bytes. PyTorch's is that of torchvision's or
timm's model in channels_last on images that are normalised already.

Both run in a process of their own that waits while the other takes a step, so that a machine
that is busy for a while slows down both. Prints a table of the median step of each, and with
--json all times.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# Of each row: model, pixels, images, whether with AdamW, and what PyTorch has of it.
CASES = {
    "resnet18_64": ("resnet18", 64, 64, False, "torchvision resnet18"),
    "resnet18_96": ("resnet18", 96, 64, False, "torchvision resnet18"),
    "resnet50": ("resnet50", 224, 8, False, "torchvision resnet50"),
    "resnet20": ("resnet20", 32, 128, False, "of torchvision's blocks"),
    "vit_ti16": ("vit_ti16", 224, 16, True, "timm vit_tiny_patch16_224"),
    "vit_s16": ("vit_s16", 224, 8, True, "timm vit_small_patch16_224"),
    "efficientnet_b0": ("efficientnet_b0", 224, 8, False, "torchvision efficientnet_b0"),
    "mobilenet_v3_small": ("mobilenet_v3_small", 224, 16, False, "torchvision mobilenet_v3_small"),
    "convnext_tiny": ("convnext_tiny", 224, 8, True, "timm convnext_tiny"),
    "regnet_y_400mf": ("regnet_y_400mf", 224, 16, False, "torchvision regnet_y_400mf"),
}
WARM_UP = 2


def our_step(case: str) -> Callable[[], Any]:
    """A function that takes one step and waits for it."""
    import jax

    from imagenet_jax.config import base_config
    from imagenet_jax.devices.sharding import make_mesh
    from imagenet_jax.study.measure import noise_batch
    from imagenet_jax.tasks.classification import Classification
    from imagenet_jax.training.program import make_program

    name, size, batch_size, adamw, _ = CASES[case]
    config = base_config()
    config.model.update(name=name, dtype="float32", bn_group_size=0)
    config.data.update(name="fake", image_size=size)
    config.batch_size, config.optim.name = batch_size, "adamw" if adamw else "sgd"
    task = Classification.of_size(config, _classes(name))
    program = make_program(task, make_mesh(), num_examples=100_000)
    train_step, batch, state = program.compile_train_step(), noise_batch(program), None

    def step() -> None:
        nonlocal state
        state, sums = train_step(state or program.init_state(), batch)
        jax.block_until_ready((state, sums))

    return step


def torch_step(case: str) -> Callable[[], Any]:
    import torch
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    name, size, batch_size, adamw, reference = CASES[case]
    model = _torch_model(name, reference).to(memory_format=torch.channels_last).train()
    if adamw:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
    images = torch.randn(batch_size, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.long)

    def step() -> None:
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _torch_model(name: str, reference: str) -> Any:
    from oracles import reference_model, torchvision

    if name != "resnet20":
        return reference_model(reference)
    import torch

    blocks = torchvision().models.resnet
    model = blocks.ResNet(blocks.BasicBlock, [1, 1, 1, 1], num_classes=_classes(name))
    model.inplanes = 16
    model.conv1, model.bn1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16)
    model.maxpool = model.layer4 = torch.nn.Identity()
    for number, width in enumerate((16, 32, 64), 1):
        layer = model._make_layer(blocks.BasicBlock, width, 3, 1 if number == 1 else 2)
        setattr(model, f"layer{number}", layer)
    model.fc = torch.nn.Linear(64, _classes(name))
    return model


def _classes(name: str) -> int:
    return 10 if name == "resnet20" else 1000


class Peer:
    """A process that takes a step when asked."""

    def __init__(self, kind: str, case: str, devices: int):
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, f"--peer={kind}", f"--model={case}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def step(self) -> float:
        """Seconds of the next step."""
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {' '.join(self.process.args)} ended, see above")
        return float(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(kind: str, case: str) -> None:
    """What the process of a peer does."""
    answers, sys.stdout = sys.stdout, sys.stderr  # timm prints
    step = {"imagenet_jax": our_step, "PyTorch": torch_step}[kind](case)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, file=answers, flush=True)


def compare(case: str, steps: int, devices: int) -> dict[str, list[float]]:
    """Seconds of each step of both, one after the other."""
    peers = {kind: Peer(kind, case, devices) for kind in ("imagenet_jax", "PyTorch")}
    times: dict[str, list[float]] = {kind: [] for kind in peers}
    for number in range(WARM_UP + steps):
        for kind, peer in peers.items():
            seconds = peer.step()
            if number >= WARM_UP:
                times[kind].append(seconds)
    for peer in peers.values():
        peer.close()
    return times


def row(case: str, times: dict[str, list[float]]) -> str:
    """Images per second of both by their median steps, and the ratio."""
    name, size, batch, _, _ = CASES[case]
    ours, theirs = (batch / statistics.median(seconds) for seconds in times.values())
    return f"| {name} | {size} | {batch} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--steps", type=int, default=10, help="of each that are timed")
    parser.add_argument("--devices", type=int, default=1, help="virtual ones, of this project")
    parser.add_argument("--json", type=Path, help="write the times of all steps")
    parser.add_argument("--peer", choices=["imagenet_jax", "PyTorch"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        serve(args.peer, args.model[0])
        return
    print("| model | pixels | batch | images/s | PyTorch | ratio |\n|---|---|---|---|---|---|")
    found = {}
    for case in args.model or CASES:
        found[case] = compare(case, args.steps, args.devices)
        print(row(case, found[case]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
