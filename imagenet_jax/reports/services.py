"""The services that metrics can go to, and what they need on the machines of a job."""

import importlib.util
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import ml_collections

from imagenet_jax.errors import ConfigError

_WANDB = ("API_KEY", "BASE_URL", "ENTITY", "MODE", "RUN_GROUP", "JOB_TYPE", "TAGS", "NOTES")
_MLFLOW = ("URI", "TOKEN", "USERNAME", "PASSWORD", "INSECURE_TLS")
# Environment variables that a job on other machines gets from here. Some are secret: they are never
# to be in a script, in an argument or in a log.
VARIABLES = (
    *(f"WANDB_{name}" for name in _WANDB),
    *(f"MLFLOW_TRACKING_{name}" for name in _MLFLOW),
    *("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"),
    *("DATABRICKS_HOST", "DATABRICKS_TOKEN"),
)
_OFFLINE = ("offline", "dryrun", "disabled")
_OF_THIS_MACHINE = r"https?://(localhost|127\.|0\.0\.0\.0|\[::1\])|/|file:|sqlite:"


def services_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Which of wandb and mlflow a config logs to."""
    return tuple(name for name in ("wandb", "mlflow") if config.log[name])


def check_packages(services: Collection[str]) -> None:
    """Raises ConfigError for a service whose package is not installed here."""
    for name in services:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"config.log.{name} needs a package: pip install {name}")


def check_key(services: Collection[str], environment: Mapping[str, str]) -> None:
    """Raises ConfigError if W&B's key is neither in the environment nor in the home folder."""
    files = (Path(environment.get("NETRC") or "~/.netrc"), Path("~/_netrc"))
    if any(path.expanduser().is_file() for path in files):  # where `wandb login` puts it
        return
    if not {"WANDB_API_KEY_FILE", "WANDB_IDENTITY_TOKEN_FILE"} & environment.keys():
        _check_wandb(services, environment, "`wandb login`, or export WANDB_API_KEY")


def check_handed_over(services: Collection[str], environment: Mapping[str, str]) -> None:
    """Raises ConfigError if machines that get no more than VARIABLES could not reach a service."""
    _check_wandb(services, environment, "export WANDB_API_KEY, as they do not have ~/.netrc")
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    if "mlflow" in services and re.match(_OF_THIS_MACHINE, uri):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={uri} is of this machine alone: give an address that the "
            "machines of the job can reach, or unset it, for WORKDIR/mlflow.db"
        )


def _check_wandb(services: Collection[str], environment: Mapping[str, str], how: str) -> None:
    known = environment.get("WANDB_API_KEY") or environment.get("WANDB_MODE") in _OFFLINE
    if "wandb" in services and not known:
        raise ConfigError(
            "config.log.wandb needs a key, and the machines of the job would find none: "
            f"{how}; WANDB_MODE=offline keeps it in WORKDIR/wandb, for `wandb sync`"
        )
