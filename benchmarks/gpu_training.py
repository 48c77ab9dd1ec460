"""Training steps on the GPU at hand: this project's beside those of peers, in one run.

    git clone --depth=1 https://github.com/google/flax FLAX
    pip install torch timm
    python benchmarks/gpu_training.py --flax=FLAX --batch=256

ResNet-50 and ViT-S/16 at 224 pixels in bfloat16, on a batch of noise that is on the GPU:

- this project: `launch.py study` of configs/resnet50.py and configs/vit_s16.py, which casts,
  flips, normalises and mixes up images of bytes in its step;
- PyTorch: timm's model with torch.compile, channels_last, autocast to bfloat16 and a fused
  optimizer, on images that are normalised already;
- the Flax ImageNet example's step on such images, see peer_steps.py.

Each runs in a process of its own, one after the other. Images per second are of steps in a row
that are waited for at the end; "peak" is the memory in use at most. Prints a table, and with
--json all that was found.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZE, CLASSES = 224, 1000
OURS = {
    "resnet50": ["--config=configs/resnet50.py", "--config.model.bn_group_size={batch}"],
    "vit_s16": ["--config=configs/vit_s16.py", "--config.accumulate=1"],
}


def run(command: list[str], result: Path) -> dict[str, Any]:
    """What a process leaves in `result`."""
    print("+", *command, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=sys.stderr)
    return json.loads(result.read_text())


def ours(model: str, batch: int, workdir: Path, options: list[str]) -> dict[str, Any]:
    result = workdir / "ours.json"
    chosen = [option.format(batch=batch) for option in OURS[model]] + options
    command = ["launch.py", "study", *chosen, f"--batch_per_device={batch}", "--partitioner=jit"]
    found = run([*command, f"--workdir={workdir}", f"--json={result}"], result)
    return found["variants"][0] | {"versions": found["versions"]}


def compare(
    model: str, batch: int, flax: Path | None, workdir: Path, options: list[str]
) -> dict[str, Any]:
    """What this project and its peers take for a model, by name."""
    found = {"imagenet_jax": ours(model, batch, workdir, options)}
    result = workdir / "torch.json"
    command = ["benchmarks/gpu_training.py", f"--torch={model}", f"--json={result}"]
    found["PyTorch, timm"] = run([*command, f"--batch={batch}"], result)
    if flax and model == "resnet50":
        result = workdir / "flax.json"
        command = [
            "benchmarks/peer_steps.py",
            "flax",
            f"--checkout={flax.resolve()}",
            "--topology=",
        ]
        found["flax example"] = run([*command, f"--batch={batch}", f"--json={result}"], result)
    return found


def torch_peer(model: str, batch: int) -> dict[str, Any]:
    """Runs in a process of its own."""
    import timm
    import torch

    from imagenet_jax.study.measure import time_steps

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    step = _torch_step(model, batch)
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    measured = time_steps(step, lambda _: torch.cuda.synchronize())
    return {
        "compile_seconds": seconds,
        "measured": measured | {"peak_bytes": torch.cuda.max_memory_allocated()},
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "device": torch.cuda.get_device_name(),
        },
    }


def _torch_step(name: str, batch: int) -> Callable[[], Any]:
    import timm
    import torch
    from torch.nn import functional

    # As configs/vit_s16.py but for a layer before the head: the mean of the patches, no token.
    options = {} if name == "resnet50" else {"class_token": False, "global_pool": "avg"}
    timm_name = {"resnet50": "resnet50", "vit_s16": "vit_small_patch16_224"}[name]
    model = timm.create_model(timm_name, num_classes=CLASSES, **options)
    model = model.cuda().to(memory_format=torch.channels_last).train()
    if name == "resnet50":
        optimizer = torch.optim.SGD(
            model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1, fused=True)
    images = torch.randn(batch, 3, SIZE, SIZE, device="cuda")
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.long, device="cuda")
    compiled = torch.compile(model)

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = functional.cross_entropy(compiled(images), labels)
        loss.backward()
        if name == "vit_s16":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def table(found: dict[str, dict[str, dict[str, Any]]], batch: int) -> str:
    """Markdown; MFU by the analytic FLOPs of the model and the peak of the chip's table."""
    lines = ["| | | images/s | step | MFU | peak | of ours |", "|---|---|---|---|---|---|---|"]
    for model, results in found.items():
        mine = results["imagenet_jax"]
        for name, result in results.items():
            seconds = row_seconds(result)
            mfu = mine["mfu"] * mine["predicted_step_seconds"] / seconds
            peak = result["measured"].get("peak_bytes")
            lines.append(
                f"| {model} | {name} | {batch / seconds:,.0f} | {1e3 * seconds:.1f} ms "
                f"| {100 * mfu:.1f} % | {f'{peak / 1e9:.1f} GB' if peak else ''} "
                f"| {row_seconds(mine) / seconds:.2f} |"
            )
    return "\n".join(lines)


def row_seconds(result: dict[str, Any]) -> float:
    """Of a step in a row of steps."""
    return result["measured"]["step_seconds"] - result["measured"]["gap_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--flax", type=Path, help="checkout of google/flax; none: without the example"
    )
    parser.add_argument("--batch", type=int, default=256, help="images")
    parser.add_argument("--model", action="append", choices=list(OURS), help="default: both")
    parser.add_argument("--json", type=Path, help="write all that was found")
    parser.add_argument("--workdir", type=Path, help="keep what each process writes")
    parser.add_argument("--torch", choices=list(OURS), help=argparse.SUPPRESS)
    args, options = parser.parse_known_args()  # the rest is for launch.py study
    if args.torch:
        args.json.write_text(json.dumps(torch_peer(args.torch, args.batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        workdir = (args.workdir or Path(folder)).resolve()
        workdir.mkdir(parents=True, exist_ok=True)
        found = {
            model: compare(model, args.batch, args.flax, workdir, options)
            for model in args.model or OURS
        }
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))
    print(table(found, args.batch))


if __name__ == "__main__":
    main()
