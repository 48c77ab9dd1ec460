"""Training that is killed, stopped, frozen and robbed of files: does it end where it should?

    IMAGENET_JAX_TEST_DATA=DIR python benchmarks/chaos.py --faults=20

trains a small ResNet on photos of CIFAR-10 (DIR/cifar10_images.zip) in 2 processes of 2 virtual
devices, once undisturbed and once with faults at random moments, and prints a JSON object: whether
the states are equal bit for bit, the faults by kind, restarts, steps that had to be done again, and
what went otherwise than it should. Whenever the job ends before the run does, it is started again.
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
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = (
    *("SIGKILL", "SIGTERM", "SIGSTOP"),  # to a random process
    "lost file",  # the newest checkpoint loses one, and a random process gets SIGKILL
    "SIGTERM in evaluation",
    "bad image",  # in the part of one process; mended when the job has ended
    "second start",  # in the same workdir, while the first is at work
    *("launcher SIGHUP", "launcher SIGKILL"),
)
LIMIT = 3600.0  # seconds for a run
END_TIME = 60.0  # seconds for what a job leaves to end


def command(workdir: Path, photos: Path, steps: int, restarts: int = 1000) -> list[str]:
    """The run: 64 images a step, a checkpoint every ten steps, an evaluation every forty."""
    fields = {
        "data.name": f"folder:{photos}",
        "data.eval_split": "test",
        "data.cache": False,
        "model.width": 8,
        "batch_size": 64,
        "model.bn_group_size": 16,
        "duration": f"{steps} steps",
        "schedule.warmup": "10 steps",
        "checkpoint.every": "10 steps",
        "eval.every": "40 steps",
        "eval.batch_size": 16,
        "log.every": "1 steps",
        "log.tensorboard": False,
        "hang_timeout": 30,
    }
    return [
        *(sys.executable, str(ROOT / "launch.py"), f"--config={ROOT}/configs/cifar10_cpu.py"),
        *("--launcher=processes:2x2", f"--max_restarts={restarts}", "--start_timeout=60"),
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def extract_photos(archive: Path, photos: Path, train: int = 640, test: int = 640) -> None:
    """So many of each split, of all classes."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if not name.endswith("/"))
        for split, count in (("train", train), ("test", test)):
            listed = [name for name in names if name.startswith(f"{split}/")]
            file.extractall(photos, listed[:: len(listed) // count][:count])


def of_run(workdir: Path) -> list[int]:
    """Process ids of all that works there, but for launchers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended
            continue
        if f"--workdir={workdir}\0" in line and "--launcher" not in line and state not in "ZX":
            found.append(int(folder.name))
    return found


def is_frozen(process: int) -> bool:
    """Whether it has got SIGSTOP."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def last_line(workdir: Path) -> dict[str, float]:
    """The last whole line of metrics.jsonl; step 0 before there is one."""
    file = workdir / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return json.loads(lines[-1]) if lines else {"step": 0}


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


class Rough:
    """A run with faults.

    Attributes:
      wrong: what did not go as it should.
      lost: steps that were done again.
      statuses: of the jobs, in the order of their ends.
    """

    def __init__(self, workdir: Path, photos: Path, steps: int, chance: random.Random):
        self.workdir, self.photos, self.steps, self.chance = workdir, photos, steps, chance
        self.log = workdir.with_suffix(".log").open("w+")
        self.wrong: list[str] = []
        self.statuses: list[int] = []
        self.lost, self.before = 0, 0
        self.broken: tuple[Path, bytes] | None = None
        self.start()

    def start(self) -> None:
        line = command(self.workdir, self.photos, self.steps)
        self.job = subprocess.Popen(line, stdout=self.log, stderr=subprocess.STDOUT, cwd=ROOT)

    def look(self) -> bool:
        """Counts steps, and starts again what has ended too early; True when the run is over."""
        step = last_line(self.workdir)["step"]
        self.lost += max(0, self.before - step)  # a run that resumes drops what it will do again
        self.before = step
        status = self.job.poll()
        if status is None:
            return False
        self.statuses.append(status)
        deadline = time.monotonic() + END_TIME
        while (left := of_run(self.workdir)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            self.wrong.append(f"left running after status {status}: {left}")
            for process in left:
                os.kill(process, signal.SIGKILL)
        expected = {0, 75, -signal.SIGKILL, -signal.SIGHUP, *([1] if self.broken else [])}
        if status not in expected:
            self.wrong.append(f"the job ended with status {status}")
        self.mend(status)
        if status:
            self.start()
        return status == 0

    def mend(self, status: int) -> None:
        """Brings back the image that was broken."""
        if self.broken:
            path, content = self.broken
            path.write_bytes(content)
            self.broken = None
            if status == 1 and f"unreadable image: {path}" not in self.text():
                self.wrong.append(f"{path} was not named")

    def text(self) -> str:
        return self.workdir.with_suffix(".log").read_text(errors="replace")

    def do(self, kind: str) -> bool:
        """Does a fault; False if that is not possible now."""
        alive = of_run(self.workdir)
        if len(alive) < 2:
            return False
        try:
            return self._do(kind, alive)
        except ProcessLookupError:
            return False

    def _do(self, kind: str, alive: list[int]) -> bool:
        one = self.chance.choice(sorted(alive))
        if kind == "lost file":
            if not lose_file(self.workdir, self.chance):
                return False
            os.kill(one, signal.SIGKILL)
        elif kind == "SIGTERM in evaluation":
            line = last_line(self.workdir)
            if not line["step"] or line["step"] % 40 or "eval/loss" in line:
                return False
            os.kill(one, signal.SIGTERM)
        elif kind == "bad image":
            path = self.chance.choice(sorted((self.photos / "train").rglob("*.jpg")))
            self.broken = path, path.read_bytes()
            path.write_bytes(b"\x89PNG\r\n\x1a\n")
        elif kind == "second start":
            return self._second_start(alive)
        elif kind.startswith("launcher"):
            if any(map(is_frozen, alive)):  # nothing but SIGKILL ends these
                return False
            self.job.send_signal(signal.Signals[kind.removeprefix("launcher ")])
        else:
            os.kill(one, signal.Signals[kind])
        return True

    def _second_start(self, alive: list[int]) -> bool:
        """The second is to be refused, and the first to go on."""
        try:
            holder = json.loads((self.workdir / "run.lock").read_bytes())["pid"]
        except (OSError, ValueError):
            return False
        if holder not in alive or any(map(is_frozen, alive)):
            return False
        line = command(self.workdir, self.photos, self.steps, restarts=0)
        second = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        if second.returncode != 1 or "is in use by" not in second.stdout:
            self.wrong.append(f"a second start ended with status {second.returncode}")
        if self.job.poll() not in (None, 0):
            self.wrong.append("a second start ended the first")
        return True


def disturbed(rough: Rough, faults: int) -> dict[str, Any]:
    """Runs with so many faults; what became of it."""
    chance, done = rough.chance, []
    kinds = [
        kind for _ in range(0, faults, len(KINDS)) for kind in chance.sample(KINDS, len(KINDS))
    ]
    begin = time.monotonic()
    moment = begin + chance.uniform(2, 25)
    while not rough.look() and time.monotonic() - begin < LIMIT:
        time.sleep(0.05)
        if len(done) == faults or time.monotonic() < moment or not rough.do(kinds[len(done)]):
            continue
        done.append(kinds[len(done)])
        print(
            f"{time.monotonic() - begin:5.0f} s  {done[-1]} at step {rough.before}", file=sys.stderr
        )
        # From the middle of a start, which takes about ten seconds, to many steps later.
        moment = time.monotonic() + chance.uniform(2, 25)
    rough.job.kill()
    text = rough.text()
    return {
        "statuses": rough.statuses,
        "wrong": rough.wrong,
        "faults": {kind: done.count(kind) for kind in KINDS},
        "restarts": text.count("launcher: starting again"),
        "resumed_at": [int(step) for step in re.findall(r"\[0\] resumed: step (\d+)", text)],
        "steps_lost": rough.lost,
        "wall_seconds": time.monotonic() - begin,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos, quiet, rough = (Path(folder) / name for name in ("photos", "quiet", "rough"))
        extract_photos(Path(os.environ["IMAGENET_JAX_TEST_DATA"]) / "cifar10_images.zip", photos)
        line = command(quiet, photos, args.steps)
        subprocess.run(line, check=True, capture_output=True, cwd=ROOT)
        run = Rough(rough, photos, args.steps, random.Random(args.seed))
        result = disturbed(run, args.faults)
        summaries = [json.loads((run / "summary.json").read_text()) for run in (quiet, rough)]
    shas = [summary["state_sha256"] for summary in summaries]
    result |= {"equal": shas[0] == shas[1], "state_sha256": shas[1]}
    result["correct_top1"] = [summary["eval"]["correct_top1"] for summary in summaries]
    print(json.dumps(result, indent=2))
    good = result["equal"] and not result["wrong"] and result["statuses"][-1:] == [0]
    good = good and sum(result["faults"].values()) == args.faults
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
