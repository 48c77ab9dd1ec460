"""Several processes on this machine that work together, as the hosts of a pod would."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagenet_jax.errors import HUNG, PERMANENT, STOPPED, ConfigError
from imagenet_jax.hosts.children import start_child, stop_signals
from imagenet_jax.hosts.launchers.job import Job

_LAST_LINES = 20
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds before a restart
_END_TIME = 60.0  # seconds for the others to end when one has finished or was told to stop


def parse_processes(text: str) -> tuple[int, int]:
    """(2, 4) of "processes:2x4", (2, 1) of "processes:2". Raises ConfigError."""
    found = re.fullmatch("processes:([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text)
    if not found:
        raise ConfigError(
            f"--launcher={text}: there are local, the default, and processes:NxD, N processes "
            "with D virtual CPU devices each, e.g. processes:2x4"
        )
    return int(found[1]), int(found[2] or 1)


def launch_processes(job: Job, count: int, devices: int, *, dry_run: bool) -> int:
    """Runs the job's command as processes of this machine; `dry_run`: prints it instead."""
    command = job.command()
    if dry_run:
        for number in range(count):
            settings = _settings(count, devices, number, port="PORT")
            print(" ".join(f"{name}={value}" for name, value in settings.items()))
            print(f"  {shlex.join(command)}")
        return 0
    logs = job.workdir / "logs"
    return run_processes(command, count, devices, logs=logs, restarts=job.restarts)


def run_processes(
    command: Sequence[str], count: int, devices: int, *, logs: Path, restarts: int
) -> int:
    """Runs a command as the processes of one job, on loopback, until all have ended.

    Each writes to its own file and, with its number in front, to the terminal. If one fails the
    others are killed, as they would wait for it for ever. SIGTERM, SIGINT and the SIGHUP of a
    terminal that is closed go to all of them, and so does SIGTERM when this process is killed. One
    of them that gets a signal makes all save and stop, and they are started again.

    Args:
      command: what each process runs.
      count: processes.
      devices: virtual CPU devices of each.
      logs: folder for process-0.log and so on; later starts append.
      restarts: how often to start the whole job again when a process was stopped, killed, hung
        or crashed, after 1, 2, 4 and so on to 60 seconds, and after 1 again where it was
        stopped or ran ten times as long. With a status of `errors.PERMANENT` it has said
        what is wrong and is not started again.

    Returns:
      0, or the status of the first process that failed, 128 + N for a signal N.
    """
    logs.mkdir(parents=True, exist_ok=True)
    wait = _FIRST_WAIT
    while True:
        begin = time.monotonic()
        with _Job(command, count, devices, logs) as job:
            status, stopped = job.wait()
        if status == 0 or stopped or status in PERMANENT or not restarts:
            return status
        if status == STOPPED or time.monotonic() - begin > 10 * wait:
            wait = _FIRST_WAIT
        _say(f"starting again in {wait:.0f} s; {restarts} restarts are left")
        time.sleep(wait)
        wait, restarts = min(2 * wait, _LONGEST_WAIT), restarts - 1


class _Job:
    """The running processes; leaving the context ends those that are left."""

    def __init__(self, command: Sequence[str], count: int, devices: int, logs: Path):
        self._logs = [logs / f"process-{number}.log" for number in range(count)]
        port = _free_port()
        self._processes = [
            start_child(
                command,
                env=os.environ | _settings(count, devices, number, port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in range(count)
        ]
        self._readers = [
            threading.Thread(target=self._read, args=(number,)) for number in range(count)
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "_Job":
        return self

    def __exit__(self, *unused: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started itself
            process.wait()
        for reader in self._readers:
            reader.join()

    def wait(self) -> tuple[int, bool]:
        """Status of the job, and whether a signal asked for its end."""
        with self._passing_signals_on() as received:
            left, statuses, deadline = dict(enumerate(self._processes)), {}, float("inf")
            while left and time.monotonic() < deadline:
                time.sleep(0.1)
                ended = [number for number in left if left[number].poll() is not None]
                statuses |= {number: left.pop(number).returncode for number in ended}
                failed = {n: code for n, code in statuses.items() if code not in (0, STOPPED)}
                if failed:
                    # What only a person can mend explains the rest.
                    number = min(failed, key=lambda n: failed[n] not in PERMANENT)
                    code = failed[number]
                    self._show_end(number, code)
                    return (code if code > 0 else 128 - code), bool(received)
                if statuses and deadline == float("inf"):
                    deadline = time.monotonic() + _END_TIME
            status = max(statuses.values())
            if left:
                _say(f"processes {[*left]} have not ended {_END_TIME:.0f} s after the first did")
                status = status or HUNG
            return status, bool(received)

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[list[int]]:
        received: list[int] = []

        def pass_on(number: int, frame: object) -> None:
            received.append(number)
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

        old = {s: signal.signal(s, pass_on) for s in stop_signals()}
        try:
            yield received
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _read(self, number: int) -> None:
        """Whatever happens to the log and to this output, a pipe that nobody reads would stop the
        process, and the job with it."""
        with contextlib.ExitStack() as opened:
            log = None
            with contextlib.suppress(OSError):
                log = opened.enter_context(self._logs[number].open("ab", buffering=0))
            for line in self._processes[number].stdout:
                with contextlib.suppress(OSError):  # a full disk
                    if log:
                        log.write(line)
                text = f"[{number}] {line.decode(errors='replace').rstrip()}\n"
                with contextlib.suppress(OSError):  # of `| head` that has ended
                    print(text, end="", flush=True)  # in one piece, as the other readers print too

    def _show_end(self, number: int, code: int) -> None:
        how = f"status {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        log, lines = self._logs[number], []
        with contextlib.suppress(OSError):
            lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        _say(
            f"process {number} ended by {how}; the others are ended too. Its last lines, of {log}:"
        )
        for line in lines:
            _say(f"  {line}")


def _settings(count: int, devices: int, number: int, port: int | str) -> dict[str, str]:
    """Environment variables of a process."""
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(number),
        "PYTHONUNBUFFERED": "1",
        # A proxy that is set for the world outside does not know this machine's loopback.
        "no_proxy": ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1,localhost"))),
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _say(text: str) -> None:
    print(f"launcher: {text}", file=sys.stderr, flush=True)
