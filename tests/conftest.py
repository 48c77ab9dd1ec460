"""Eight virtual CPU devices for every test, and configs small enough for two cores."""

import functools
import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Programs that run for a moment need not be made fast: a ResNet-8's step compiles in 1.3 s of CPU
# time instead of 4.4, and 20 of it take 0.7 s instead of 0.4; operations one by one cost half.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    # Later versions have no flag for it.
    + " --xla_cpu_use_fusion_emitters=false"
    * (int(importlib.metadata.version("jaxlib").split(".")[1]) < 11),
)
# Many tests compile the same small programs: workers and subprocesses share one cache a run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="imagenet_jax-test-cache-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# As somebody may have it who wants to see such slips: every program must be traced without one.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Programs that pip installed are beside the interpreter, also where no environment is activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

import ml_collections
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.models.table import MODELS

# What takes longest goes first, so that at the end no worker waits for another.
_FIRST = ("test_processes", "test_sweep", "test_watchdog", "test_step", "test_sharding")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in _FIRST)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def make_tiny_config() -> ml_collections.ConfigDict:
    """A ResNet-8 of width 8 on 40 fake images of 8x8 pixels, 16 a batch, 20 steps, float32."""
    config = base_config()
    config.batch_size = 16
    config.duration = "20 steps"
    config.model.name = "resnet8"
    config.model.width = 8
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.bn_group_size = 2
    config.data.name = "fake"
    config.data.image_size = 8
    config.data.fake_train_examples = 40
    config.data.fake_eval_examples = 30
    config.data.fake_classes = 10
    config.augment.pad = 1
    config.eval.batch_size = 16
    config.eval.every = "10 steps"
    config.checkpoint.every = "5 steps"
    config.log.every = "5 steps"
    config.log.tensorboard = False
    return config


@pytest.fixture
def tiny_config() -> ml_collections.ConfigDict:
    return make_tiny_config()


# Half the time to trace, to compile and to read back.
ONE_BLOCK = functools.partial(MODELS["resnet8"], stage_sizes=(1,))


@pytest.fixture(scope="module")
def module_config() -> Iterator[ml_collections.ConfigDict]:
    """`loop_config` for fixtures of a module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, "resnet8", ONE_BLOCK)
        yield make_tiny_config()


@pytest.fixture(scope="module")
def wide_config(module_config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """That of arrays that fill a file each."""
    module_config.model.width = 64
    return module_config


@pytest.fixture
def one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """resnet8 has one block of its three, where the depth of a network does not matter."""
    monkeypatch.setitem(MODELS, "resnet8", ONE_BLOCK)


@pytest.fixture
def loop_config(one_block: None) -> ml_collections.ConfigDict:
    """`tiny_config` with one block."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a run of `loop_config`; for reading, `trained` is to change."""
    from imagenet_jax.training.loop import train

    workdir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, "resnet8", ONE_BLOCK)
        train(make_tiny_config(), workdir)
    return workdir


@pytest.fixture
def trained(
    finished_run: Path, loop_config: ml_collections.ConfigDict, tmp_path: Path
) -> Callable[[], Path]:
    """Makes a copy of `finished_run` in the test's own folder."""
    return lambda: Path(shutil.copytree(finished_run, tmp_path / "trained"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with cifar10_images.zip and imagenet_sample.zip; skips where it is absent."""
    folder = os.environ.get("IMAGENET_JAX_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("IMAGENET_JAX_TEST_DATA names no folder of test photos")
    return Path(folder)
