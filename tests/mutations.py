"""Breaks one line at a time and sees whether the tests notice.

    python tests/mutations.py [--only=PATTERN]

Works on a copy of the tree. Each break is a mistake that somebody could make, and names the test
that has to fail; a minute is more than any of them takes. Ends with status 1 if a break survives,
if its line is no more what the table says, or if a test of the table fails without any.
"""

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mutation_table import BREAKS

ROOT = Path(__file__).parents[1]
LIMIT = 300  # seconds of one run of pytest, on a machine that does other things too


class Break(NamedTuple):
    """A line of the table."""

    name: str
    file: str  # in imagenet_jax/
    old: str  # is there once
    new: str
    tests: tuple[str, ...]  # what has to fail, below tests/


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="*", help="names of breaks, as fnmatch has them")
    chosen = [Break(*row) for row in BREAKS]
    chosen = [row for row in chosen if fnmatch.fnmatch(row.name, parser.parse_args().only)]
    with tempfile.TemporaryDirectory(prefix="imagenet_jax-mutations-") as folder:
        tree = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info")
        shutil.copytree(ROOT, tree, ignore=ignored)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        wrong = check_table(chosen, tree)
        for row in chosen if not wrong else ():
            begin = time.monotonic()
            verdict = try_break(row, tree)
            wrong += verdict != "killed"
            print(f"{verdict:9} {time.monotonic() - begin:5.0f} s  {row.name}", flush=True)
    print(f"{len(chosen)} breaks, {wrong} not as they should be")
    return int(wrong > 0)


def check_table(rows: list[Break], tree: Path) -> int:
    """How much is wrong with the table, or with the tests as they are."""
    wrong = 0
    for row in rows:
        found = (tree / "imagenet_jax" / row.file).read_text().count(row.old)
        if found != 1:
            print(f"{row.name}: {row.file} has this {found} times: {row.old}")
            wrong += 1
    if not wrong:
        begin, tests = time.monotonic(), sorted({test for row in rows for test in row.tests})
        status, output = run_tests(tests, tree, limit=LIMIT * len(rows))
        if status:
            print(output)
        print(f"{len(tests)} selections without a break: {time.monotonic() - begin:.0f} s")
        wrong += status != 0
    return wrong


def try_break(row: Break, tree: Path) -> str:
    """What the tests say of a break: killed or survived, or what went wrong otherwise."""
    file = tree / "imagenet_jax" / row.file
    text = file.read_text()
    file.write_text(text.replace(row.old, row.new))
    try:
        status, output = run_tests(row.tests, tree, limit=LIMIT)
    except subprocess.TimeoutExpired:
        return "too slow"
    finally:
        file.write_text(text)
    if status in (0, 1):
        return ("survived", "killed")[status]
    print(output)  # the tests have not even begun
    return f"status {status}"


def run_tests(tests: list[str] | tuple[str, ...], tree: Path, *, limit: float) -> tuple[int, str]:
    """Status and output of pytest, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-m", ""]
    command += ["-p", "no:cacheprovider"]  # -m: the slow ones too
    command += [f"tests/{test}" for test in tests]
    # Python takes a file written within the same second, and of the same size, for the old one.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=limit
    )
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:]


if __name__ == "__main__":
    sys.exit(main())
