"""The front door: python launch.py [VERB] [--config=NAME] [--config.FIELD=VALUE ...]"""

from imagenet_jax.cli import main, start

__all__ = ["main", "start"]

if __name__ == "__main__":
    start()
