"""The start of a process: joining the others of its job, and logging.

JAX is imported by `start_process` and not with this file: what is wrong with a command line is
said before that.
"""

import contextlib
import hashlib
import importlib.util
import logging as pylogging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging

from imagenet_jax.errors import HUNG, STOPPED, ConfigError
from imagenet_jax.printable import printable_lines
from imagenet_jax.terminal import clear

_VARIABLES = ("NUM_PROCESSES", "PROCESS_ID")
_LAST_SECONDS = 10.0  # to tell the others of a job
_joined = threading.Event()  # this process has met them
_is_program = threading.Event()  # it is this program's, not one that imports the package
# Settings of JAX's, by environment variables too, with which numbers would be others or no step
# can be compiled, and what they have to be.
_SETTINGS = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_disable_jit": False,
}


def end_at_sigterm() -> None:
    """Lets SIGTERM end the process with `errors.STOPPED`, as nothing is lost before a run begins.

    Until another handler takes its place, as those of `preemption.stop_requests` do. A thread
    sees to it, as Python's own handlers wait while this process waits for the others of its job.
    """

    def end(*unused: object) -> NoReturn:
        timer = threading.Timer(_LAST_SECONDS, os._exit, (STOPPED,))
        timer.daemon = True
        timer.start()
        if _joined.is_set():
            from imagenet_jax.hosts.ending import end_job

            end_job("was stopped, with nothing to save; the same command line continues", STOPPED)
        os._exit(STOPPED)

    def watch() -> None:
        while number := os.read(reading, 1):
            if number[0] == signal.SIGTERM and signal.getsignal(signal.SIGTERM) is end:
                end()

    _is_program.set()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=watch, name="SIGTERM", daemon=True).start()


def is_program() -> bool:
    """Whether signals may end this process: `end_at_sigterm` was called, the front door's."""
    return _is_program.is_set()


def start_process(job: Mapping[str, Any] | None, timeout: int = 300) -> None:
    """Joins the processes of a job and sets up logging, before anything else asks JAX.

    Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/imagenet_jax.

    Args:
      job: see `own_job`; None: this process works alone.
      timeout: seconds to wait for the other processes; then it ends with `errors.HUNG`.

    Raises:
      ConfigError: if an environment variable of JAX's has an impossible value, or one with which
        nothing here was made to work.
    """
    try:
        import jax
    except ValueError as error:  # of JAX_ENABLE_X64, JAX_NUM_CPU_DEVICES and the like
        raise ConfigError(
            f"JAX refuses its settings in the environment (JAX_...): {error}"
        ) from error

    flags.FLAGS.mark_as_parsed()  # absl would announce that nobody parsed its flags
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(_is_of_interest)
    logging.get_absl_handler().setFormatter(_Line())
    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", f"{cache}/imagenet_jax/compiled")
    if job is not None:
        from imagenet_jax.hosts.ending import listen

        # Its own handler of SIGTERM would swallow what comes before `preemption.stop_requests`.
        jax.config.update("jax_enable_preemption_service", False)
        with _start_limit(timeout):
            jax.distributed.initialize(**job, initialization_timeout=timeout + 60)
        listen()
        _joined.set()
    for name, needed in _SETTINGS.items():
        if (found := getattr(jax.config, name)) != needed:
            raise ConfigError(
                f"{name.upper()} = {found}: it has to be {needed}; unset the environment variable"
            )


def is_one_of_many() -> bool:
    """Whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that shows results: process 0, or one that works alone."""
    return not is_one_of_many() or sys.modules["jax"].process_index() == 0


def is_runtime_error(error: BaseException) -> bool:
    """Whether JAX's runtime raised it: a compiled program, or what processes tell each other."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(error, jax.errors.JaxRuntimeError)


@contextlib.contextmanager
def _start_limit(seconds: int) -> Iterator[None]:
    """Ends a process that waits longer for the others; JAX would abort it without a word of why."""

    def end() -> None:
        where = os.environ.get("JAX_COORDINATOR_ADDRESS", "the address that JAX detected")
        print(
            f"error: this process could not join its job within --start_timeout={seconds} seconds. "
            f"The coordinator is process 0, at {where}: see that all processes run and that "
            "every host can reach its port",
            file=sys.stderr,
            flush=True,
        )
        os._exit(HUNG)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def own_job() -> dict[str, Any] | None:
    """The job of this process, see `find_job`. Raises as that does."""
    return find_job(os.environ, on_tpu_vm=_on_tpu_vm())


def find_job(environment: Mapping[str, str], *, on_tpu_vm: bool) -> dict[str, Any] | None:
    """Arguments for jax.distributed.initialize, or None for a process on its own.

    By JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; else what JAX detects:
    Slurm's steps, Open MPI, other MPIs through mpi4py, TPU VMs, jobs of Kubernetes.

    Args:
      environment: the environment variables.
      on_tpu_vm: whether this is a host of a TPU slice.

    Raises:
      ConfigError: if something is missing.
    """
    if "JAX_COORDINATOR_ADDRESS" in environment:
        count, number = (_number(environment, f"JAX_{name}", -1) for name in _VARIABLES)
        _, colon, port = environment["JAX_COORDINATOR_ADDRESS"].rpartition(":")
        if not (0 <= number < count and colon and port.isdecimal()):
            values = ", ".join(
                f"{name}={environment.get(name, '')}"
                for name in ("JAX_COORDINATOR_ADDRESS", *(f"JAX_{name}" for name in _VARIABLES))
            )
            raise ConfigError(
                f"{values}; set JAX_COORDINATOR_ADDRESS to HOST:PORT of process 0, "
                "JAX_NUM_PROCESSES to how many there are, and JAX_PROCESS_ID to which of them this "
                "is, from 0 on"
            )
        return {"num_processes": count, "process_id": number}
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1 or on_tpu_vm:
        return {}
    of_mpi = "OMPI_COMM_WORLD_SIZE" if "OMPI_COMM_WORLD_SIZE" in environment else "PMI_SIZE"
    if _number(environment, of_mpi, 1) > 1:
        if "OMPI_MCA_orte_hnp_uri" in environment:  # Open MPI up to 4
            return {}
        if importlib.util.find_spec("mpi4py"):
            return {"cluster_detection_method": "mpi4py"}
        raise ConfigError(
            "MPI started this process with others, but not how to reach them: pip install "
            "mpi4py, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        if importlib.util.find_spec("kubernetes"):
            return {}
        raise ConfigError(
            "this pod is one of a Kubernetes job: pip install kubernetes, or set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    return None


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of the environment. Raises ConfigError."""
    try:
        return int(environment.get(name, default))
    except ValueError:
        raise ConfigError(
            f"the environment variable {name} is {environment[name][:40]!r}; expected a whole "
            "number. Set it to one, or unset it"
        ) from None


def _on_tpu_vm() -> bool:
    attached = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return attached and importlib.util.find_spec("libtpu") is not None


def code_sha256() -> str:
    """Hash over the source files of the package, to find processes that run other code."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


class _Line(pylogging.Formatter):
    """A record as `terminal.say` would print it, with its level in place of absl's prefix."""

    def format(self, record: pylogging.LogRecord) -> str:
        clear()
        return printable_lines(f"{record.levelname.lower()}: {super().format(record)}")


def _is_of_interest(record: pylogging.LogRecord) -> bool:
    """Whether to show a log record."""
    return not str(record.msg).startswith("Variant folder")  # of TFDS, at each set to be prepared
