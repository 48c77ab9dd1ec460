"""The start of a process: joining the others of its job, and logging."""

import importlib.util
import logging as pylogging
import os
import sys
from pathlib import Path

import jax
from absl import flags, logging

from imagenet_jax.errors import ConfigError

_VARIABLES = ("NUM_PROCESSES", "PROCESS_ID")


def start_process() -> None:
    """Joins the processes of a job and sets up logging, before anything else asks JAX.

    Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/imagenet_jax.
    """
    flags.FLAGS.mark_as_parsed()  # absl would announce that nobody parsed its flags
    logging.use_absl_handler()
    # A log file gets clu's lines of metrics; on a terminal the progress bar shows them.
    logging.set_verbosity(logging.WARNING if sys.stderr.isatty() else logging.INFO)
    logging.get_absl_handler().addFilter(_is_of_interest)
    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", f"{cache}/imagenet_jax/compiled")
    on_tpu_vm = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        try:
            count, number = (int(os.environ[f"JAX_{name}"]) for name in _VARIABLES)
        except (KeyError, ValueError) as error:
            raise ConfigError(
                "JAX_COORDINATOR_ADDRESS is set; set JAX_NUM_PROCESSES and JAX_PROCESS_ID to "
                f"whole numbers as well ({error})"
            ) from error
        jax.distributed.initialize(num_processes=count, process_id=number)
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 or (
        on_tpu_vm and importlib.util.find_spec("libtpu")
    ):
        jax.distributed.initialize()


def _is_of_interest(record: pylogging.LogRecord) -> bool:
    """Whether to show a log record: orbax and TFDS would bury the others."""
    if str(record.msg).startswith(("Requested `tracked_metric`", "Variant folder")):
        return False  # at each checkpoint without an evaluation, at each data set to be prepared
    return record.levelno > pylogging.INFO or "/clu/" in record.pathname
