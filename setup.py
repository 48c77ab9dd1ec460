"""What pyproject.toml cannot say: configs/ is a part of the package where that is installed."""

from pathlib import Path

from setuptools import find_packages, setup

CONFIGS = {
    "imagenet_jax.configs": "configs",
    "imagenet_jax.configs.recipes": "configs/recipes",
}
DEV = (Path(__file__).parent / "requirements-dev.txt").read_text().splitlines()

setup(
    packages=[*find_packages(include=["imagenet_jax*"]), *CONFIGS],
    package_dir=CONFIGS,
    extras_require={
        "gpu": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "study": ["libtpu"],  # XLA's TPU compiler; needs no TPU
        # 0.13 is the last jax2onnx that goes with orbax-checkpoint 0.12.
        "export": ["jax2onnx==0.13.*", "onnx>=1.20", "onnxruntime>=1.24", "ai-edge-litert>=2.1"],
        "serve": [
            "starlette>=1.0",
            "uvicorn>=0.40",
            "python-multipart>=0.0.27",
            "prometheus-client>=0.22",
        ],
        "wandb": ["wandb>=0.20"],
        "mlflow": ["mlflow-skinny>=3.1", "sqlalchemy>=2.0", "alembic>=1.14"],
        "dev": [line.partition("#")[0].strip() for line in DEV if not line.startswith("-r ")],
    },
)
