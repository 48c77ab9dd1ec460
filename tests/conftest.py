"""Eight virtual CPU devices for every test, and configs small enough for two cores."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Programs that run for a moment need not be made fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
# Many tests compile the same small programs: workers and subprocesses share one cache a run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="imagenet_jax-test-cache-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Programs that pip installed are beside the interpreter, also where no environment is activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

import ml_collections
import pytest

from imagenet_jax.config import base_config


@pytest.fixture
def tiny_config() -> ml_collections.ConfigDict:
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


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with cifar10_images.zip and imagenet_sample.zip; skips where it is absent."""
    folder = os.environ.get("IMAGENET_JAX_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("IMAGENET_JAX_TEST_DATA names no folder of test photos")
    return Path(folder)
