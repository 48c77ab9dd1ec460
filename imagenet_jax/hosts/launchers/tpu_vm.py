"""A script that gets TPU VMs from Cloud TPU's queue, trains on them, and replaces those that go."""

import dataclasses
import os
import shlex
from pathlib import Path

from imagenet_jax.atomic import replace_text
from imagenet_jax.hosts.launchers.job import MOUNT, PERMANENT_PATTERN, Job, shell, submit
from imagenet_jax.hosts.launchers.options import check_names, option
from imagenet_jax.reports.services import VARIABLES, check_handed_over

# https://cloud.google.com/tpu/docs/runtimes, by the beginning of the accelerator's type
_RUNTIMES = {
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


@dataclasses.dataclass(frozen=True)
class TpuVmOptions:
    """--launcher=tpu-vm:type=v5litepod-16,zone=us-west4-a,bucket=BUCKET,spot=true"""

    type: str = option(meaning="accelerator type, e.g. v4-32, v5litepod-16, v6e-256")
    zone: str = option(meaning="zone of Google Cloud")
    bucket: str = option(meaning=f"Cloud Storage bucket, mounted at {MOUNT} for the workdir")
    project: str = option("", meaning="'': gcloud's default")
    spot: bool = option(False, meaning="VMs that may be preempted at any time")
    runtime: str = option("", meaning="runtime version; '': the one for the type")


_SCRIPT = """#!/usr/bin/env bash
# bash tpu-vm.sh up|create|install|run|watch|logs|delete
# up: create, install, run and watch until the run has ended; then delete the TPU.
set -euo pipefail
name={name}
flags=({flags})
folder={folder}

on_all() {{
  gcloud compute tpus tpu-vm ssh "$name" "${{flags[@]}}" --worker=all --command="$1"
}}

# UNKNOWN: gcloud could not tell, as without a network.
state() {{
  local answer
  if answer=$(gcloud compute tpus queued-resources describe "$name" "${{flags[@]}}" \\
    --format='value(state.state)' 2>&1); then
    echo "$answer"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo NONE
  else
    echo UNKNOWN
  fi
}}

create() {{
  gcloud compute tpus queued-resources create "$name" --node-id="$name" "${{flags[@]}}" \\
    --accelerator-type={type} --runtime-version={runtime}{spot}
  while true; do
    case "$(state)" in
      ACTIVE) return ;;
      FAILED | SUSPENDED) return 1 ;;
    esac
    sleep 30
  done
}}

install() {{
  local copy
  copy=$(mktemp -d)
  tar -C "$folder" --exclude=./.git --exclude=./runs -czf "$copy/code.tar.gz" .
  write_run > "$copy/run.sh"
  gcloud compute tpus tpu-vm scp "$copy/code.tar.gz" "$copy/run.sh" "$name:" "${{flags[@]}}" \\
    --worker=all
  rm -r "$copy"
  # shellcheck disable=SC2016
  on_all 'set -e
    mkdir -p code && tar -C code -xzf code.tar.gz
    # The images of TPU VMs bring an older Python.
    test -x .local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh
    test -d venv || .local/bin/uv venv --quiet --python 3.12 venv
    .local/bin/uv pip install --quiet --python venv -r code/requirements.txt "jax[tpu]"{packages}
    if ! command -v gcsfuse > /dev/null; then
      key=/usr/share/keyrings/cloud.google.asc
      packages=https://packages.cloud.google.com/apt
      curl -s $packages/doc/apt-key.gpg | sudo tee $key > /dev/null
      echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
      sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse
    fi
    sudo mkdir -p {mount} && sudo chown "$USER" {mount}
    mountpoint -q {mount} || gcsfuse --implicit-dirs {bucket} {mount}'
}}

# What every host runs: the command, started again unless only a person can mend its error.
write_run() {{
  cat << 'RUN'
#!/usr/bin/env bash
cd ~/code || exit 1
if [ -f ~/run.env ]; then
  . ~/run.env
  rm ~/run.env
fi
restarts={restarts} wait=1
while true; do
  ~/venv/bin/{command}
  status=$?
  case $status in 0|{permanent}) break ;; esac
  if [ "$restarts" -eq 0 ]; then break; fi
  restarts=$((restarts - 1))
  echo "ended with status $status; starting again in $wait s; $restarts restarts are left"
  sleep $wait
  wait=$((wait < 30 ? 2 * wait : 60))
done
echo $status > ~/run.status
RUN
}}

# What the services that metrics go to ask for, as far as it is set here: in a file of its owner's
# alone, which run.sh removes. An argument would be seen by others.
hand_over() {{
  local copy variable status=0
  copy=$(mktemp -d)
  (
    umask 077
    for variable in \\
      {variables}; do
      if [ -n "${{!variable:-}}" ]; then
        printf 'export %s=%q\\n' "$variable" "${{!variable}}"
      fi
    done > "$copy/run.env"
  )
  gcloud compute tpus tpu-vm scp "$copy/run.env" "$name:" "${{flags[@]}}" --worker=all || status=$?
  rm -r "$copy"
  return $status
}}

run() {{
  hand_over && on_all 'chmod 600 run.env; rm -f run.status
    setsid nohup bash run.sh > run.log 2>&1 < /dev/null &'
}}

# Looks every minute; gets another TPU when this one was preempted.
watch() {{
  local status
  while true; do
    case "$(state)" in
      ACTIVE)
        status=$(gcloud compute tpus tpu-vm ssh "$name" "${{flags[@]}}" --worker=0 \\
          --command='cat run.status 2> /dev/null || true' 2> /dev/null || true)
        if [ -n "$status" ]; then
          echo "the run ended with status $status"
          return "$status"
        fi
        ;;
      FAILED | SUSPENDED | NONE)
        echo "the TPU is gone; asking for another"
        delete || true
        if create; then install && run; fi
        ;;
    esac
    sleep 60
  done
}}

logs() {{
  gcloud compute tpus tpu-vm ssh "$name" "${{flags[@]}}" --worker=0 \\
    --command='tail -n +1 -f run.log'
}}

delete() {{
  gcloud compute tpus queued-resources delete "$name" "${{flags[@]}}" --force --quiet
}}

# Whatever the run ended with, the TPU is not paid for any longer.
up() {{
  local status=0
  {{ create && install && run && watch; }} || status=$?
  delete || echo "$name could not be deleted and is still paid for: bash $0 delete" >&2
  return $status
}}

case "${{1:-}}" in
  up) up ;;
  create | install | run | watch | logs | delete) "$1" ;;
  *) sed -n '2,3p' "$0"; exit 2 ;;
esac
"""


def tpu_vm_script(job: Job, options: TpuVmOptions) -> str:
    """The text of tpu-vm.sh."""
    check_names("tpu-vm", options, "type", "zone", "bucket", "project", "runtime")
    flags = [f"--zone={options.zone}"]
    if options.project:
        flags.append(f"--project={options.project}")
    kind = options.type.partition("-")[0]
    return _SCRIPT.format(
        name=job.name,
        flags=shlex.join(flags),
        folder=shlex.quote(str(job.folder)),
        type=shlex.quote(options.type),
        runtime=shlex.quote(options.runtime or _RUNTIMES.get(kind, "tpu-ubuntu2204-base")),
        spot=" --spot" if options.spot else "",
        packages="".join(f" {name}" for name in job.services),
        variables=" \\\n      ".join(VARIABLES),
        mount=MOUNT,
        bucket=shlex.quote(options.bucket),
        restarts=job.restarts,
        command=shell(job.remote_command("python"), indent="    "),
        permanent=PERMANENT_PATTERN,
    )


def launch_tpu_vm(job: Job, options: TpuVmOptions, *, dry_run: bool) -> int:
    """Writes runs/NAME/tpu-vm.sh and runs its `up`; `dry_run`: prints it instead.

    Raises:
      UserError: if there is no gcloud here, or the script fails.
      ConfigError: if a service that the metrics go to could not be reached from there.
    """
    check_handed_over(job.services, os.environ)
    script, path = tpu_vm_script(job, options), Path("runs") / job.name / "tpu-vm.sh"
    command = ["bash", str(path), "up"]
    if dry_run:
        print(f"# {path}\n{script}\n# {shlex.join(command)}")
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, script)
    hint = f"`bash {path} logs` shows the log, `bash {path} delete` deletes the TPU"
    submit(command, path, needs="gcloud", hint=hint)
    return 0
