"""A batch script for Slurm, which starts the job again when it was preempted or crashed."""

import dataclasses
import os
import shlex

from imagenet_jax.atomic import replace_text
from imagenet_jax.hosts.launchers.job import PERMANENT_PATTERN, Job, shell, submit
from imagenet_jax.hosts.launchers.options import check_names, option
from imagenet_jax.reports.services import check_key, check_packages


@dataclasses.dataclass(frozen=True)
class SlurmOptions:
    """--launcher=slurm:nodes=2,gpus_per_node=8,time=24:00:00,partition=gpu"""

    nodes: int = option(1, meaning="hosts")
    gpus_per_node: int = option(8, meaning="GPUs of each, a process per GPU; 0: CPU only", least=0)
    tasks_per_node: int = option(1, meaning="with gpus_per_node=0: processes of each host")
    cpus_per_task: int = option(0, meaning="CPU cores of a process; 0: Slurm's default", least=0)
    time: str = option("24:00:00", meaning="limit; the run saves, stops and goes on in a new one")
    partition: str = option("", meaning="'': Slurm's default")
    account: str = option("", meaning="'': Slurm's default")
    wait: bool = option(False, meaning="return when the job has ended, with its status")
    setup: str = option("", meaning="a shell command before, e.g. 'module load cuda'")


def slurm_script(job: Job, options: SlurmOptions) -> str:
    """The text of the batch script; folder, interpreter and workdir are those of all hosts.

    Slurm starts it in the folder in which it is submitted.
    """
    check_names("slurm", options, "partition", "account", "time")
    workdir = job.workdir.absolute()
    tasks = options.gpus_per_node or options.tasks_per_node
    directives = {
        "job-name": job.name,
        "nodes": options.nodes,
        "ntasks-per-node": tasks,
        "gpus-per-node": options.gpus_per_node or "",
        "cpus-per-task": options.cpus_per_task or "",
        "partition": options.partition,
        "account": options.account,
        "time": options.time,
        "output": f"{workdir}/logs/".replace("%", "%%") + "slurm-%j.log",
        "open-mode": "append",
        "signal": "TERM@120",
    }
    lines = [f"#SBATCH --{n}={_word(value)}" for n, value in directives.items() if value != ""]
    return f"""#!/usr/bin/env bash
{chr(10).join(lines)}
#SBATCH --requeue

# 120 s before the time limit, and when it is preempted, every process gets SIGTERM: all save at
# the same step and end, and the job is queued again. So it is after a crash.
set -uo pipefail
{f"{options.setup}{chr(10)}" if options.setup else ""}export PYTHONUNBUFFERED=1
# A process that has said what only a person can mend leaves this file.
export FAILED={shlex.quote(str(workdir / "logs"))}/slurm-$SLURM_JOB_ID.failed
rm -f "$FAILED"

# A task that has not ended 120 s after the first one did is frozen. Some Slurms signal the first
# process of a task alone, this shell, which passes it on and waits.
# shellcheck disable=SC2016
srun --label --kill-on-bad-exit=1 --wait=120 bash -c '
  "$@" &
  child=$!
  signalled=
  trap "signalled=1; kill -TERM $child" TERM
  wait $child
  status=$?
  while [ -n "$signalled" ]; do
    signalled=
    wait $child
    status=$?
  done
  case $status in {PERMANENT_PATTERN}) : > "$FAILED" ;; esac
  exit $status
' task \\
  {shell(job.command())}
status=$?

if [ $status -eq 0 ]; then
  exit 0
fi
if [ -e "$FAILED" ]; then
  echo "a process reported an error that starting again does not mend"
  exit 1
fi
if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {job.restarts} ]; then
  echo "ended with status $status after {job.restarts} restarts"
  exit $status
fi
echo "ended with status $status; the job is queued again"
scontrol requeue "$SLURM_JOB_ID"
"""


def _word(value: object) -> str:
    """A value of an #SBATCH line: sbatch splits at spaces, takes # for a comment, and knows quotes
    as a shell does, but for a backslash, which it drops within them as well."""
    return shlex.quote(str(value)).replace("\\", "\\\\")


def launch_slurm(job: Job, options: SlurmOptions, *, dry_run: bool) -> int:
    """Writes WORKDIR/job.sbatch and submits it; `dry_run`: prints it instead.

    Raises:
      UserError: if there is no sbatch here, or it refuses the script.
      ConfigError: if a service lacks its package or its key, which a job has from here: sbatch
        exports the environment.
    """
    check_packages(job.services)
    check_key(job.services, os.environ)
    script, path = slurm_script(job, options), job.workdir.absolute() / "job.sbatch"
    command = ["sbatch", *(["--wait"] if options.wait else []), str(path)]
    if dry_run:
        print(f"# {path}\n{script}\n# {shlex.join(command)}")
        return 0
    (job.workdir / "logs").mkdir(parents=True, exist_ok=True)
    replace_text(path, script)
    submit(command, path, hint="see the script with --dry_run, or submit it where Slurm is")
    return 0
