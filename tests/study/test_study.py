"""The verb, on the attached devices: what it reports, saves, compares and refuses."""

import json

import jax
import pytest

import launch
from imagenet_jax.study.topology import find_hardware

FIELDS = (
    *("topology", "partitioner", "batch_per_device", "num_devices", "compile_seconds", "flops"),
    *("bytes_accessed", "estimated_cycles", "all_reduces", "peak_bytes", "fits", "mfu"),
    *("predicted_step_seconds", "predicted_images_per_second_per_chip"),
)
SMALL = (
    *("study", "--config=configs/fake_data.py", "--config.model.name=resnet8"),
    *("--config.model.width=8", "--config.model.stem=cifar", "--config.data.image_size=8"),
    *("--config.model.dtype=float32", "--config.model.bn_group_size=2"),
    "--config.data.fake_classes=10",
)


@pytest.fixture(scope="module")
def result(tmp_path_factory, module_config):
    folder = tmp_path_factory.mktemp("study")
    arguments = (f"--workdir={folder}", f"--json={folder}/result.json", "--batch_per_device=2,4")
    options = "xla_cpu_multi_thread_eigen=true,xla_tpu_scoped_vmem_limit_kib=32768"
    arguments += (f"--config.compiler_options={options}", "--config.data.train_size=12")
    arguments += ("--config.stages=('1 epochs: augment.erase=0.1',)",)
    assert launch.main([*SMALL, "--partitioner=shard_map", "--with_input", *arguments]) == 0
    return folder, json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_report(result):
    folder, report = result
    assert [v["batch_per_device"] for v in report["variants"]] == [2, 4]
    for facts in report["variants"]:
        assert set(FIELDS) <= set(facts)
        assert facts["num_devices"] == 8 and facts["topology"] == "attached"
        assert facts["fits"] and facts["all_reduces"] >= 1
        # Gradients, metrics and running statistics cross the devices, activations do not.
        parameters = 4 * 1_506
        assert 0 < facts["collectives"]["all-reduce"]["bytes"] < 2 * parameters
        assert set(facts["collectives"]) == {"all-reduce"}
        assert facts["aliased_outputs"] >= 2 * 11 + 6  # parameters, momenta, running statistics
        assert facts["compiler_options"] == {
            "xla_disable_hlo_passes": "cse_barrier_expander",  # what a CPU always gets
            "xla_cpu_multi_thread_eigen": True,
        }
        measured = facts["measured"]
        assert measured["step_seconds"] > measured["dispatch_seconds"] > 0
        assert 0 <= measured["input_wait_fraction"] < 1
        assert measured["images_per_second_per_chip_with_input"] > 0
        assert facts["largest_batch_per_device"] > facts["batch_per_device"]
        assert {"forward", "backward", "optimizer", "input"} <= set(facts["phases"])
        assert set(facts["layers"]) == {"conv1", "bn1", "layer1.0", "fc"}
    two, four = report["variants"]
    assert four["flops"] == pytest.approx(2 * two["flops"], rel=0.2)
    assert len(list((folder / "study").glob("*.png"))) == 4


@pytest.mark.slow
def test_compiler_and_model_agree_on_flops(result):
    """Of 8x8 pixels a part of the 3x3 kernels reads padding only, which XLA leaves out."""
    for facts in result[1]["variants"]:
        assert facts["flops_per_image"] < 1.5 * facts["model_flops_per_image"]
        assert facts["flops_per_image"] > 0.5 * facts["model_flops_per_image"]


@pytest.mark.slow
def test_compare(result, capsys):
    study = result[0] / "study"
    reports = [str(study / f"attached_shard_map_{batch}.json") for batch in (2, 4)]
    assert launch.main(["study", "--compare", *reports, f"--json={study}/compare.json"]) == 0
    found = json.loads((study / "compare.json").read_text())
    assert found["ratios"]["flops"][2] == pytest.approx(2, rel=0.2)
    assert found["new"] and found["lost"]
    assert "only in B" in capsys.readouterr().out
    assert launch.main(["study", "--compare", reports[0], reports[0]]) == 0
    assert "PREDICTED" not in capsys.readouterr().out


def test_missing_compilers_say_what_to_install(monkeypatch, capsys):
    def find_spec(name):
        if "." in name:
            raise ModuleNotFoundError(name)  # as the real one does without the package

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    for topology, package in (("v5e:2x2", "libtpu"), ("h200:8", "jax-cuda13-plugin")):
        assert launch.main([*SMALL, f"--topology={topology}"]) == 1
        assert f"pip install {'--no-deps ' if 'cuda' in package else ''}{package}" in (
            capsys.readouterr().err
        )


def test_attached_cpu_is_measured():
    chip = find_hardware("").chip
    assert chip.platform == jax.devices()[0].platform
    assert 1e9 < chip.flops < 1e14 and 1e8 < chip.hbm_bandwidth < 1e13
