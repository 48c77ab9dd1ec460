"""Facts of the programs that XLA's TPU and GPU compilers make of named configs. Not timings.

They need the compilers, not the hardware: `pip install libtpu`, and for the GPU see
`study.topology`. A change that breaks one of them costs time on every step of every run.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from imagenet_jax.study.hlo import read_hlo
from imagenet_jax.study.operations import flops_of

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("large")]


def study(folder, topology, *arguments, config="resnet50"):
    """Facts of one variant, all operations, and its HLO. In a process: XLA reads its flags once."""
    command = [sys.executable, "launch.py", "study", f"--config={config}"]
    command += [f"--topology={topology}", f"--workdir={folder}", "--partitioner=shard_map"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (report,) = (folder / "study").glob("*.json")
    return json.loads(report.read_text()), report.with_suffix(".hlo").read_text()


@pytest.fixture(scope="module", autouse=True)
def own_flags():
    """XLA's, of users: those of the tests ask for less, and libtpu does not know all of them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("XLA_FLAGS", raising=False)
        yield


@pytest.fixture(scope="module")
def tpu(tmp_path_factory):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    return study(tmp_path_factory.mktemp("tpu"), "v5e:2x2", "--batch_per_device=128")


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    if importlib.util.find_spec("jax_plugins") is None:
        pytest.skip("jax-cuda13-plugin is not installed")
    arguments = ("--batch_per_device=256", "--config.model.bn_group_size=256")
    return study(tmp_path_factory.mktemp("gpu"), "h200:8", *arguments)


def check_step(facts, hlo):
    """What holds on every hardware."""
    assert facts["fits"]
    assert set(facts["collectives"]) == {"all-reduce"}  # no activation crosses devices
    # 25.6 M gradients, the running statistics and the metrics, in float32, once.
    assert facts["collectives"]["all-reduce"]["bytes"] == pytest.approx(4 * 25.61e6, rel=0.01)
    assert facts["aliased_outputs"] >= 160 * 2 + 106  # parameters, momenta, running statistics
    assert "callback" not in hlo and "outfeed" not in hlo
    module = read_hlo(hlo)
    products = [one for op, _ in module.main() for one in module.inside(op)]
    large = [one for one in products if flops_of(module, one) > 6e9]
    inputs = {module.shapes[name].partition("[")[0] for one in large for name in one.operands[:2]}
    assert len(large) >= 90 and inputs == {"bf16"}


@pytest.mark.exhaustive
def test_tpu_program(tpu):
    facts, hlo = tpu
    check_step(facts, hlo)
    # libtpu 0.0.52, jax 0.10.2: 3 all-reduces, 78.1 M cycles, 21.3 GB of HBM, 38.4 GB accessed,
    # 2.9 GB temporaries. The flax example's step, in the same environment: 100, 108.0 M, 28.9,
    # 49.8 and 4.7.
    assert facts["all_reduces"] <= 3
    assert facts["estimated_cycles"] <= 0.76 * 108.0e6
    assert facts["hbm_bytes"] <= 0.75 * 28.85e9
    assert facts["bytes_accessed"] <= 0.82 * 49.8e9
    assert facts["temporary_bytes"] < 3.1e9
    large = [op for op in facts["operations"] if op["bytes"] > 50e6]
    # What starts with "copy-start" brings data to scratch memory beside other work.
    moved = [op for op in large if op["kind"] in ("copy", "transpose", "reshape")]
    assert all(op["name"].startswith("copy-start") for op in moved)


@pytest.mark.exhaustive
def test_tpu_program_of_a_transformer(tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    facts, _ = study(tmp_path, "v5e:2x2", "--batch_per_device=128", config="vit_s16")
    assert facts["fits"] and facts["all_reduces"] <= 3
    # 75.6 M cycles, 10.1 GB of HBM, 48.9 GB accessed; big_vision's step, in the same environment:
    # 112.3 M, 20.3 and 67.4.
    assert facts["estimated_cycles"] <= 0.7 * 112.3e6
    assert facts["hbm_bytes"] <= 0.5 * 20.3e9
    assert facts["bytes_accessed"] <= 0.75 * 67.4e9
    assert facts["copies"] <= 65  # heads change their layout on the way to the products


def test_gpu_program(gpu):
    facts, hlo = gpu
    check_step(facts, hlo)
    # jax 0.10.2: 771 fusions, no copy, 2 all-reduces, 8.1 GB temporaries. The flax example's
    # step, in the same environment: 1,467, 1, 133 and 11.2.
    assert facts["fusions"] <= 777
    assert facts["copies"] <= 5
    assert facts["all_reduces"] <= 3
    assert facts["temporary_bytes"] <= 0.75 * 11.2e9


@pytest.mark.exhaustive
def test_a_step_that_does_not_fit_is_reported_beside_one_that_does(tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    result = tmp_path / "result.json"
    command = [sys.executable, "launch.py", "study", "--config=configs/resnet50.py"]
    command += ["--topology=v5e:2x2", "--partitioner=shard_map", "--config.model.name=resnet18"]
    command += ["--config.model.bn_group_size=0", "--batch_per_device=8,16384"]
    command += ["--config.compiler_options="]  # with them 8 images tell 0.3 of what XLA does
    command += [f"--workdir={tmp_path}", f"--json={result}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "DOES NOT FIT" in done.stdout
    small, large = json.loads(result.read_text())["variants"]
    assert small["fits"] and not large["fits"] and set(small) >= set(large)
    assert large["peak_bytes"] > large["capacity_bytes"] and large["flops"] is None
    # Both tell the same largest batch, one from below and one from above.
    assert 0.5 < small["largest_batch_per_device"] / large["largest_batch_per_device"] < 2


@pytest.mark.exhaustive
def test_the_largest_batch_that_fits(tmp_path):
    """Found by compiling: it fits, and an eighth more does not, nor does it fail the study."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")

    def variants(name, *arguments):
        result = tmp_path / f"{name}.json"
        command = [sys.executable, "launch.py", "study", "--config=configs/fake_data.py"]
        command += ["--config.model.name=resnet8", "--config.data.image_size=32"]
        command += ["--config.model.bn_group_size=0", "--partitioner=shard_map"]
        command += ["--topology=v5e:2x2", f"--workdir={tmp_path}", f"--json={result}", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(result.read_text())["variants"], done.stdout

    (start,), text = variants("search", "--batch_per_device=128", "--largest_batch")
    found = start["largest_batch_per_device"]
    assert start["largest_batch_compiled"] and f"{found:,}" in text and "about" not in text
    (fitting, failing), text = variants("check", f"--batch_per_device={found},{found * 9 // 8}")
    assert fitting["fits"] and fitting["peak_bytes"] > 0.6 * fitting["capacity_bytes"]
    assert not failing["fits"] and "DOES NOT FIT" in text and set(fitting) >= set(failing)
    assert failing["peak_bytes"] > failing["capacity_bytes"] and failing["flops"] is None


@pytest.mark.exhaustive
def test_a_pod_of_256_chips(tmp_path):
    """The gradients are reduced over all; a chip's program is that of four chips."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    small = ("--config.model.name=resnet18", "--config.data.image_size=32")
    facts, hlo = study(tmp_path, "v5e:16x16", "--batch_per_device=128", *small)
    assert facts["num_devices"] == 256 and facts["all_reduces"] <= 3
    assert "replica_groups={{0,1,2,3,4" in hlo or "replica_groups=[1,256]<=[256]" in hlo


TWO_SLICES = """
import collections, json, re
from jax.experimental import topologies
from imagenet_jax.config import base_config
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.program import make_program
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.study.topology import find_hardware

find_hardware("v5e:2x2")
slices = dict(topology_name="v5e:2x2", num_slices=2)
mesh = make_mesh("fsdp", topologies.get_topology_desc(platform="tpu", **slices).devices)
config = base_config()
config.model.name, config.model.width, config.model.scan = "vit_ti16", 192, True
config.optim.name, config.sharding, config.model.bn_group_size = "adamw", "fsdp", 0
config.batch_size, config.data.image_size = 32, 64
program = make_program(Classification.of_size(config, 10), mesh, num_examples=320, platform="tpu")
compiled = program.compile_train_step()
text = compiled.as_text()
pattern = r" all-gather(?:-start)?\\(.*?replica_groups=\\{([{},\\d]+?)\\},?(?= |$)"
gathers = re.findall(pattern, text, re.M)
kinds = collections.Counter(re.findall(r" ([a-z-]+?)(?:-start)?\\(", text))
state = compiled.memory_analysis().argument_size_in_bytes
print(json.dumps([dict(mesh.shape), sorted(set(gathers)), kinds["send"], state]))
"""


def test_two_slices_gather_parameters_within_a_slice_and_sum_gradients_between_them():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TWO_SLICES], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shape, gathers, sends, state = json.loads(done.stdout.splitlines()[-1])
    assert shape == {"data": 2, "fsdp": 4, "tensor": 1}
    assert gathers == ["{0,1,2,3}"]
    assert sends > 0
    # 5.4 M parameters and their moments are 65 MB; a TPU pads rows of 192 to 256.
    assert state < 65e6 / 4 * 256 / 192 * 1.1


@pytest.mark.slow
def test_a_transformer_is_compiled_for_a_gpu_that_is_not_there(tmp_path):
    """XLA 0.10.2 finds no tiles of Triton's for the product behind the attention."""
    if importlib.util.find_spec("jax_plugins") is None:
        pytest.skip("jax-cuda13-plugin is not installed")
    arguments = (
        "--config.model.name=vit_ti16",
        "--batch_per_device=64",
        "--config.model.scan=True",
    )
    facts, _ = study(tmp_path, "h100:8", *arguments, config="big_vision_vit_s16")
    assert facts["fits"] and facts["flops"] > 1e11
