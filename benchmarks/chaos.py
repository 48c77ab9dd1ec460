"""Training that is killed, stopped, frozen and robbed of files: does it end where it should?

    IMAGENET_JAX_TEST_DATA=DIR python benchmarks/chaos.py --faults=20

trains a small ResNet on CIFAR-10 (DIR/cifar10_images.zip) in 2 processes of 2 virtual devices,
once undisturbed and once with faults at random moments, and prints a JSON object: whether the
states are equal bit for bit, the faults by kind, restarts, and steps that had to be done again.
The faults: SIGKILL, SIGTERM or SIGSTOP to a random process; or the newest checkpoint loses a
random file and a random process gets SIGKILL.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("SIGKILL", "SIGTERM", "SIGSTOP", "lost file")
LIMIT = 3600.0  # seconds for a run


def command(workdir: Path, data: str, steps: int) -> list[str]:
    """The run: 64 images a step, a checkpoint every ten steps."""
    fields = {
        "data.name": data,
        "data.cache": False,
        "model.width": 8,
        "batch_size": 64,
        "model.bn_group_size": 16,
        "duration": f"{steps} steps",
        "schedule.warmup": "10 steps",
        "checkpoint.every": "10 steps",
        "eval.every": "50 percent",
        "log.every": "1 steps",
        "log.tensorboard": False,
        "hang_timeout": 30,
    }
    return [
        *(sys.executable, str(ROOT / "launch.py"), f"--config={ROOT}/configs/cifar10_cpu.py"),
        *("--launcher=processes:2x2", "--max_restarts=1000", "--start_timeout=60"),
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def workers(job: subprocess.Popen) -> list[int]:
    """Process ids of the job's processes."""
    listed = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    return [int(number) for number in listed]


def last_step(workdir: Path) -> int:
    """The last step that metrics.jsonl tells of."""
    file = workdir / "metrics.jsonl"
    found = re.findall(r'^\{"step": (\d+)', file.read_text(), re.M) if file.exists() else []
    return int(found[-1]) if found else 0


def lose_file(workdir: Path, chance: random.Random) -> bool:
    """Removes a random file of the newest checkpoint, if there are two or more."""
    steps = sorted(
        (int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()), reverse=True
    )
    if len(steps) < 2:
        return False
    files = [f for f in (workdir / "checkpoints" / str(steps[0])).rglob("*") if f.is_file()]
    chance.choice(sorted(files)).unlink(missing_ok=True)
    return True


def do_fault(kind: str, job: subprocess.Popen, workdir: Path, chance: random.Random) -> bool:
    """Whether it could be done."""
    alive = workers(job)
    if not alive or (kind == "lost file" and not lose_file(workdir, chance)):
        return False
    try:
        name = "SIGKILL" if kind == "lost file" else kind
        os.kill(chance.choice(alive), signal.Signals[name])
    except ProcessLookupError:
        return False
    return True


def disturbed(workdir: Path, data: str, steps: int, faults: int, seed: int) -> dict[str, Any]:
    """Runs with so many faults; what became of it."""
    chance = random.Random(seed)
    log = workdir.with_suffix(".log").open("w+")
    job = subprocess.Popen(
        command(workdir, data, steps), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
    )
    begin, done, lost, before = time.monotonic(), [], 0, 0
    moment = begin + chance.uniform(2, 25)
    while job.poll() is None and time.monotonic() - begin < LIMIT:
        time.sleep(0.05)
        step = last_step(workdir)
        lost += max(0, before - step)  # a run that resumes drops what it will do again
        before = step
        if len(done) == faults or time.monotonic() < moment:
            continue
        kind = chance.choice(KINDS)
        if do_fault(kind, job, workdir, chance):
            done.append(kind)
            print(f"{time.monotonic() - begin:5.0f} s  {kind} at step {step}", file=sys.stderr)
        # From the middle of a start, which takes about ten seconds, to many steps later.
        moment = time.monotonic() + chance.uniform(2, 25)
    job.kill()
    log.seek(0)
    text = log.read()
    return {
        "status": job.wait(),
        "faults": {kind: done.count(kind) for kind in KINDS},
        "restarts": text.count("launcher: starting again"),
        "resumed_at": [int(step) for step in re.findall(r"\[0\] resumed: step (\d+)", text)],
        "steps_lost": lost,
        "wall_seconds": time.monotonic() - begin,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments")
    args = parser.parse_args()
    data = f"zip:{os.environ['IMAGENET_JAX_TEST_DATA']}/cifar10_images.zip"
    with tempfile.TemporaryDirectory() as folder:
        quiet = Path(folder) / "quiet"
        subprocess.run(command(quiet, data, args.steps), check=True, capture_output=True, cwd=ROOT)
        rough = Path(folder) / "rough"
        result = disturbed(rough, data, args.steps, args.faults, args.seed)
        summaries = [json.loads((run / "summary.json").read_text()) for run in (quiet, rough)]
    shas = [summary["state_sha256"] for summary in summaries]
    result |= {"equal": shas[0] == shas[1], "state_sha256": shas[1]}
    result["correct_top1"] = [summary["eval"]["correct_top1"] for summary in summaries]
    print(json.dumps(result, indent=2))
    return 0 if result["equal"] and result["status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
