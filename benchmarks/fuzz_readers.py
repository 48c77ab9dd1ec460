"""Damaged and hostile files for every reader: does each end with an error that names the file?

    python benchmarks/fuzz_readers.py --inputs=10000

changes valid files at random (cut, bits flipped, lengths edited, parts of two spliced, also within
archives and records, whose checksums are then made right again) and reads them in a process of
its own for each reader. It prints a JSON object with the counts by reader and the most memory that
an input took, and ends with status 1 if one crashed, hung, took too much memory, or raised anything
but what the program turns into a message: a UserError, and of an image ValueError and OSError, too.
--reader=NAME --first=K --inputs=1 repeats an input; --keep=FOLDER writes those that failed.
"""

import argparse
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import fuzz_annotations
import fuzz_targets
from fuzz_targets import Reader

from imagenet_jax.errors import UserError

GROUPS = fuzz_targets.GROUPS | fuzz_annotations.GROUPS
MEMORY = 2**28  # bytes beside what was there; address space: four times as much
SECONDS = 10  # for an input; then it is interrupted, and killed if that does not help


class TooLong(BaseException):
    """No Exception, which readers may catch."""


def mutated(rng: random.Random, reader: Reader) -> bytes:
    """A file that differs in one or a few places from a valid one."""
    parts, other = list(rng.choice(reader.seeds)), reader.build(rng.choice(reader.seeds))
    if rng.random() < 0.5:
        place = rng.randrange(len(parts))
        parts[place] = changed(rng, parts[place], rng.choice(rng.choice(reader.seeds)))
        return reader.build(parts)
    return changed(rng, reader.build(parts), other)


def changed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Some bytes with one to four changes; `other` is what they may be spliced with."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not made:
            break
        at, end = sorted(rng.randrange(len(made) + 1) for _ in range(2))
        kind = rng.choice(("cut", "flip", "length", "length", "splice", "bytes", "again", "less"))
        if kind == "cut":
            del made[at:]
        elif kind == "flip":
            for _ in range(rng.choice((1, 8))):
                made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        elif kind == "length":
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice((0, 1, 2**31 - 1, 2**63, len(made), rng.getrandbits(64)))
            order = rng.choice(("little", "big"))
            value = (number % 2 ** (8 * width)).to_bytes(width, order)
            made[at : at + width] = value
        elif kind == "splice":
            made[at:] = other[rng.randrange(len(other) + 1) :]
        elif kind == "bytes":
            made[at : at + 4] = bytes(rng.choice((0, 255, 127, 128, 49)) for _ in range(4))
        elif kind == "again":
            made[end:end] = made[at : min(end, at + 1000)]
        else:
            del made[at : min(end, at + 16)]
    return bytes(made)


def memory(field: str) -> int:
    """Bytes of /proc/self/status: VmRSS, VmHWM (the most since it was reset) or VmSize."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def one(reader: Reader, data: bytes) -> tuple[str, int]:
    """Reads an input; gives "read", "refused" or what is wrong, and the memory that it took."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory("VmRSS")
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                reader.read(Path(folder), data)
                told = "read"
            except reader.expected as error:
                told = judged(error, folder)
    except TooLong:
        told = f"took more than {SECONDS} s"
    except Exception as error:  # a failure of the reader, whatever it is
        told = f"{type(error).__name__}: {error}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    taken = memory("VmHWM") - before
    return (f"took {taken / 1e6:.0f} MB" if taken > MEMORY else told), taken


def judged(error: Exception, folder: str) -> str:
    """Whether an expected error says which file it is about, and is none of memory in disguise."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"asked for too much memory: {error}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, UserError) and folder not in str(error):
        return f"does not name the file: {error}"
    return "refused"


def work(name: str, seed: int, first: int, last: int, keep: str, at: Any, results: Any) -> None:
    """Reads the inputs first <= k < last in this process; `at` tells which it is at."""

    def too_long(*_: Any) -> None:
        raise TooLong

    reader = GROUPS[name]()[name]
    reader.read(Path(tempfile.mkdtemp()), reader.build(reader.seeds[0]))  # imports, and a check
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_long)
    limit = memory("VmSize") + 4 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts, failures, most = {"read": 0, "refused": 0}, [], 0
    for k in range(first, last):
        at.value = k
        data = mutated(random.Random(f"{seed}/{name}/{k}"), reader)
        told, taken = one(reader, data)
        most = max(most, taken)
        if told in counts:
            counts[told] += 1
        else:
            failures.append({"reader": name, "input": k, "failure": told[:300]})
            if keep:
                (Path(keep) / f"{name}-{k}").write_bytes(data)
        if k == last - 1 or k % 50 == 0:
            results.put((counts, failures, most))


def fuzz(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All inputs of a reader, in as many processes as it crashes, and one."""
    context = multiprocessing.get_context("spawn")
    first, last, begin = args.first, args.first + args.inputs, time.monotonic()
    total: dict[str, Any] = {"read": 0, "refused": 0, "failures": [], "peak_mb": 0.0}
    while first < last:
        at, results = context.Value("q", -1), context.SimpleQueue()
        job = (name, args.seed, first, last, args.keep, at, results)
        process = context.Process(target=work, args=job)
        process.start()
        counts, failures, most = watched(process, at, results)
        for kind, count in counts.items():
            total[kind] += count
        total["failures"] += failures
        total["peak_mb"] = max(total["peak_mb"], round(most / 1e6, 1))
        if process.exitcode == 0:
            break
        ended = f"the process ended with {process.exitcode}"
        total["failures"].append({"reader": name, "input": at.value, "failure": ended})
        if at.value < 0:
            break
        first = at.value + 1
    return {**total, "seconds": round(time.monotonic() - begin, 1)}


def watched(process: Any, at: Any, results: Any) -> tuple[dict[str, int], list[Any], int]:
    """What a process told last; it is killed if it stays at an input."""
    told: tuple[dict[str, int], list[Any], int] = ({}, [], 0)
    where, since = at.value, time.monotonic()
    while process.is_alive() or not results.empty():
        while not results.empty():
            told = results.get()
        if at.value != where:
            where, since = at.value, time.monotonic()
        if time.monotonic() - since > (3 * SECONDS if where >= 0 else 300):
            process.kill()
        process.join(0.05)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=list(GROUPS), action="append", help="default: all")
    parser.add_argument("--keep", default="", help="a folder for the inputs that failed")
    args = parser.parse_args()
    found = {}
    for name in args.reader or GROUPS:
        found[name] = fuzz(name, args)
        print(f"{name}: {len(found[name]['failures'])} failures", file=sys.stderr, flush=True)
    print(json.dumps(found, indent=2))
    return 1 if any(result["failures"] for result in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
