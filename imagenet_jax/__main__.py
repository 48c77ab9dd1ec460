"""python -m imagenet_jax."""

from imagenet_jax.cli import start

if __name__ == "__main__":
    start()
