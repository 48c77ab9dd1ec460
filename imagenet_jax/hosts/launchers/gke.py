"""A JobSet manifest for TPU slices of Google Kubernetes Engine."""

import dataclasses
import math
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from imagenet_jax.atomic import replace_text
from imagenet_jax.errors import PERMANENT, ConfigError
from imagenet_jax.hosts.launchers.job import MOUNT, Job, submit
from imagenet_jax.hosts.launchers.options import check_names, option

SECRET = "imagenet-jax"  # of Kubernetes, with environment variables


@dataclasses.dataclass(frozen=True)
class GkeOptions:
    """--launcher=gke:image=IMAGE,bucket=BUCKET,accelerator=tpu-v5-lite-podslice,topology=4x4"""

    image: str = option(meaning="container image made from this folder's Dockerfile")
    bucket: str = option(meaning=f"Cloud Storage bucket, mounted at {MOUNT} for the workdir")
    accelerator: str = option("tpu-v5-lite-podslice", meaning="the node pool's accelerator")
    topology: str = option("4x4", meaning="chips of a slice")
    chips_per_host: int = option(4, meaning="chips of a node of the pool")
    slices: int = option(1, meaning="slices that train together")
    service_account: str = option("default", meaning="may read and write the bucket")
    namespace: str = option("default", meaning="of the cluster")


def gke_manifest(job: Job, options: GkeOptions) -> dict[str, Any]:
    """The JobSet: a job per slice, a pod per host.

    After a failure all start again, but for exit statuses that only a person can mend.

    Raises:
      ConfigError: for a topology that is none, or no multiple of a host's chips.
    """
    names = ("image", "bucket", "accelerator", "service_account", "namespace")
    check_names("gke", options, *names)
    if not re.fullmatch("[0-9]{1,6}(x[0-9]{1,6}){1,2}", options.topology):
        raise ConfigError(
            f"--launcher=gke: topology={options.topology}; expected e.g. 4x4 or 2x2x4"
        )
    hosts, rest = divmod(math.prod(map(int, options.topology.split("x"))), options.chips_per_host)
    if rest or not hosts:
        raise ConfigError(
            f"--launcher=gke: the chips of topology={options.topology} are no multiple of "
            f"chips_per_host={options.chips_per_host}"
        )
    permanent = {"containerName": "train", "operator": "In", "values": list(PERMANENT)}
    spec = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": permanent}]},
        "template": _pod(job, options),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": options.namespace,
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.restarts,
                "rules": [
                    {
                        "name": "permanent",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": options.slices, "template": {"spec": spec}}
            ],
        },
    }


class _Manifest(yaml.SafeDumper):
    """Quotes every text that does not begin with a letter.

    PyYAML knows the numbers of YAML 1.1; to kubectl, which knows 1.2, 1e3 and 0o7 are some, too.
    """


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if re.match("[A-Za-z]", text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Manifest.add_representer(str, _represent)


def manifest_text(manifest: dict[str, Any]) -> str:
    """A manifest as YAML."""
    return yaml.dump(manifest, Dumper=_Manifest, sort_keys=False, allow_unicode=False)


def _pod(job: Job, options: GkeOptions) -> dict[str, Any]:
    container = {
        "name": "train",
        "image": options.image,
        "command": job.remote_command("python3"),
        # For jobs whose metrics go to a service, see `_secret_command`.
        "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
        "ports": [{"containerPort": 8471}, {"containerPort": 8080}],
        "resources": {"limits": {"google.com/tpu": str(options.chips_per_host)}},
        "volumeMounts": [{"name": "bucket", "mountPath": str(MOUNT)}],
    }
    bucket = {"bucketName": options.bucket, "mountOptions": "implicit-dirs"}
    return {
        "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,  # to save after SIGTERM
            "serviceAccountName": options.service_account,
            "nodeSelector": {
                "cloud.google.com/gke-tpu-accelerator": options.accelerator,
                "cloud.google.com/gke-tpu-topology": options.topology,
            },
            "securityContext": {"runAsUser": 0},  # whose the nodes' TPUs and the bucket's mount are
            "containers": [container],
            "volumes": [
                {
                    "name": "bucket",
                    "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": bucket},
                }
            ],
        },
    }


def _secret_command(options: GkeOptions) -> str:
    """How to make the Secret out of the environment; no argument shows what is in it."""
    return (
        f"env | grep -E '^(WANDB|MLFLOW)_' | kubectl create secret generic {SECRET} "
        f"-n {options.namespace} --from-env-file=/dev/stdin"
    )


def _check_secret(job: Job, options: GkeOptions, how: str) -> None:
    """Raises ConfigError if pods would not find what the services that metrics go to ask for."""
    command = ["kubectl", "get", "secret", SECRET, "-n", options.namespace, "-o", "name"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode and ("wandb" in job.services or "MLFLOW_TRACKING_URI" in os.environ):
        fields = " and ".join(f"config.log.{name}" for name in job.services)
        raise ConfigError(
            f"{fields} needs what pods find in the Secret {SECRET}: {found.stderr.strip()}. "
            f"Make it out of the environment:\n  {how}"
        )


def launch_gke(job: Job, options: GkeOptions, *, dry_run: bool) -> int:
    """Writes runs/NAME/jobset.yaml and applies it; `dry_run`: prints it instead.

    Raises:
      UserError: if there is no kubectl here, or it refuses the manifest.
    """
    text = manifest_text(gke_manifest(job, options))
    path = Path("runs") / job.name / "jobset.yaml"
    command = ["kubectl", "apply", "-f", str(path)]
    secret = _secret_command(options)
    follow = f"kubectl logs -f -n {options.namespace} -l jobset.sigs.k8s.io/jobset-name={job.name}"
    after = f"# logs:   {follow}\n# delete: kubectl delete -f {path}"
    if dry_run:
        before = f"# before: {secret}\n" if job.services else ""
        print(f"# {path}\n{text}\n{before}# {shlex.join(command)}\n{after}")
        return 0
    if job.services and shutil.which("kubectl"):
        _check_secret(job, options, secret)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    submit(command, path, hint="see the manifest with --dry_run, or apply it where kubectl is")
    print(after)
    return 0
