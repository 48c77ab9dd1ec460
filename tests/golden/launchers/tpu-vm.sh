#!/usr/bin/env bash
# bash tpu-vm.sh up|create|install|run|watch|logs|delete
# up: create, install, run and watch until the run has ended; then delete the TPU.
set -euo pipefail
name=resnet50-v2-3e0f6d
flags=(--zone=us-west4-a --project=my-project)
folder='/home/me/imagenet jax'

on_all() {
  gcloud compute tpus tpu-vm ssh "$name" "${flags[@]}" --worker=all --command="$1"
}

# UNKNOWN: gcloud could not tell, as without a network.
state() {
  local answer
  if answer=$(gcloud compute tpus queued-resources describe "$name" "${flags[@]}" \
    --format='value(state.state)' 2>&1); then
    echo "$answer"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo NONE
  else
    echo UNKNOWN
  fi
}

create() {
  gcloud compute tpus queued-resources create "$name" --node-id="$name" "${flags[@]}" \
    --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot
  while true; do
    case "$(state)" in
      ACTIVE) return ;;
      FAILED | SUSPENDED) return 1 ;;
    esac
    sleep 30
  done
}

install() {
  local copy
  copy=$(mktemp -d)
  tar -C "$folder" --exclude=./.git --exclude=./runs -czf "$copy/code.tar.gz" .
  write_run > "$copy/run.sh"
  gcloud compute tpus tpu-vm scp "$copy/code.tar.gz" "$copy/run.sh" "$name:" "${flags[@]}" \
    --worker=all
  rm -r "$copy"
  # shellcheck disable=SC2016
  on_all 'set -e
    mkdir -p code && tar -C code -xzf code.tar.gz
    # The images of TPU VMs bring an older Python.
    test -x .local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh
    test -d venv || .local/bin/uv venv --quiet --python 3.12 venv
    .local/bin/uv pip install --quiet --python venv -r code/requirements.txt "jax[tpu]" wandb
    if ! command -v gcsfuse > /dev/null; then
      key=/usr/share/keyrings/cloud.google.asc
      packages=https://packages.cloud.google.com/apt
      curl -s $packages/doc/apt-key.gpg | sudo tee $key > /dev/null
      echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
      sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse
    fi
    sudo mkdir -p /mnt/bucket && sudo chown "$USER" /mnt/bucket
    mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs my-bucket /mnt/bucket'
}

# What every host runs: the command, started again unless only a person can mend its error.
write_run() {
  cat << 'RUN'
#!/usr/bin/env bash
cd ~/code || exit 1
if [ -f ~/run.env ]; then
  . ~/run.env
  rm ~/run.env
fi
restarts=10 wait=1
while true; do
  ~/venv/bin/python \
    launch.py \
    train \
    --config=configs/resnet50.py \
    --workdir=/mnt/bucket/runs/resnet50_v2 \
    '--config.duration=20 epochs' \
    --config.data.name=imagenet2012
  status=$?
  case $status in 0|1|2) break ;; esac
  if [ "$restarts" -eq 0 ]; then break; fi
  restarts=$((restarts - 1))
  echo "ended with status $status; starting again in $wait s; $restarts restarts are left"
  sleep $wait
  wait=$((wait < 30 ? 2 * wait : 60))
done
echo $status > ~/run.status
RUN
}

# What the services that metrics go to ask for, as far as it is set here: in a file of its owner's
# alone, which run.sh removes. An argument would be seen by others.
hand_over() {
  local copy variable status=0
  copy=$(mktemp -d)
  (
    umask 077
    for variable in \
      WANDB_API_KEY \
      WANDB_BASE_URL \
      WANDB_ENTITY \
      WANDB_MODE \
      WANDB_RUN_GROUP \
      WANDB_JOB_TYPE \
      WANDB_TAGS \
      WANDB_NOTES \
      MLFLOW_TRACKING_URI \
      MLFLOW_TRACKING_TOKEN \
      MLFLOW_TRACKING_USERNAME \
      MLFLOW_TRACKING_PASSWORD \
      MLFLOW_TRACKING_INSECURE_TLS \
      MLFLOW_HTTP_REQUEST_TIMEOUT \
      MLFLOW_HTTP_REQUEST_MAX_RETRIES \
      DATABRICKS_HOST \
      DATABRICKS_TOKEN; do
      if [ -n "${!variable:-}" ]; then
        printf 'export %s=%q\n' "$variable" "${!variable}"
      fi
    done > "$copy/run.env"
  )
  gcloud compute tpus tpu-vm scp "$copy/run.env" "$name:" "${flags[@]}" --worker=all || status=$?
  rm -r "$copy"
  return $status
}

run() {
  hand_over && on_all 'chmod 600 run.env; rm -f run.status
    setsid nohup bash run.sh > run.log 2>&1 < /dev/null &'
}

# Looks every minute; gets another TPU when this one was preempted.
watch() {
  local status
  while true; do
    case "$(state)" in
      ACTIVE)
        status=$(gcloud compute tpus tpu-vm ssh "$name" "${flags[@]}" --worker=0 \
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
}

logs() {
  gcloud compute tpus tpu-vm ssh "$name" "${flags[@]}" --worker=0 \
    --command='tail -n +1 -f run.log'
}

delete() {
  gcloud compute tpus queued-resources delete "$name" "${flags[@]}" --force --quiet
}

# Whatever the run ended with, the TPU is not paid for any longer.
up() {
  local status=0
  { create && install && run && watch; } || status=$?
  delete || echo "$name could not be deleted and is still paid for: bash $0 delete" >&2
  return $status
}

case "${1:-}" in
  up) up ;;
  create | install | run | watch | logs | delete) "$1" ;;
  *) sed -n '2,3p' "$0"; exit 2 ;;
esac
