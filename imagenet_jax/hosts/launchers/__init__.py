"""Where the processes of a run are started: on this machine, by Slurm, on TPU VMs, by GKE."""

from collections.abc import Callable

from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.launchers.gke import GkeOptions, launch_gke
from imagenet_jax.hosts.launchers.job import Job
from imagenet_jax.hosts.launchers.options import parse_options
from imagenet_jax.hosts.launchers.processes import launch_processes, parse_processes
from imagenet_jax.hosts.launchers.slurm import SlurmOptions, launch_slurm
from imagenet_jax.hosts.launchers.tpu_vm import TpuVmOptions, launch_tpu_vm

_LAUNCHERS = {
    "slurm": (SlurmOptions, launch_slurm),
    "tpu-vm": (TpuVmOptions, launch_tpu_vm),
    "gke": (GkeOptions, launch_gke),
}


def find_launcher(text: str) -> Callable[[Job, bool], int]:
    """What runs a job, or with True prints what would run, for --launcher=`text`.

    Raises:
      ConfigError: for a launcher or an option that does not exist, or one that is missing.
    """
    name, _, rest = text.partition(":")
    if name == "processes":
        count, devices = parse_processes(text)
        return lambda job, dry_run: launch_processes(job, count, devices, dry_run=dry_run)
    if name not in _LAUNCHERS:
        raise ConfigError(
            f"--launcher={text}: there are local, the default; processes:NxD, e.g. processes:2x4; "
            f"and with options, as in slurm:nodes=2, {', '.join(_LAUNCHERS)}"
        )
    kind, start = _LAUNCHERS[name]
    options = parse_options(name, rest, kind)
    return lambda job, dry_run: start(job, options, dry_run=dry_run)
