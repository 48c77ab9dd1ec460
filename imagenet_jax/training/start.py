"""A working directory of a run that begins with the variables of a model that is there."""

import dataclasses
import json
from pathlib import Path

from imagenet_jax.atomic import replace_text
from imagenet_jax.config import to_json
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import CheckpointError
from imagenet_jax.hosts.lock import workdir_lock
from imagenet_jax.reports.outputs import make_workdir
from imagenet_jax.training.changes import check_changes
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.clock import Clock
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import sha256
from imagenet_jax.training.trained import TrainedModel


def write_start(trained: TrainedModel, workdir: Path, num_examples: int) -> None:
    """Writes checkpoint 0, from which `loop.train` goes on; and all that reads a run reads it.

    A run of the same config that is there already is left as it is.

    Args:
      trained: the model; its config is the run's.
      workdir: of the run.
      num_examples: training examples per epoch; 0: not known, so that nobody can train on.

    Raises:
      CheckpointError: if a run of another config is there, or one that began with other variables.
      ConfigError: if the run would have no sensible length.
    """
    config, task = trained.config, trained.task
    data, digest = {"num_examples": num_examples, **task.facts()}, sha256(trained.variables)
    began = workdir / "start.json"  # records of later checkpoints do not know
    make_workdir(workdir)
    with (
        workdir_lock(workdir),
        Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep) as checkpoints,
    ):
        if there := checkpoints.record():
            check_changes(there, config, data, False, f"the checkpoint in {workdir}")
            if began.exists() and json.loads(began.read_text())["variables_sha256"] != digest:
                raise CheckpointError(
                    f"{workdir} holds a run that began with other weights; delete it, or write "
                    "somewhere else"
                )
            return
        mesh = make_mesh(config.sharding)
        program = make_program(task, mesh, num_examples=num_examples or None)
        record = {
            "config": config.to_dict(),
            "position": program.course.position(0, max(num_examples, 1)),
            "clock": dataclasses.asdict(Clock()),
            "data": data,
            # BatchNorm's statistics come with the variables.
            "statistics_of": 0 if config.eval.norm_batches else None,
        }
        checkpoints.save(0, program.init_state(trained.variables), record, None)
        checkpoints.wait()
        replace_text(began, json.dumps({"variables_sha256": digest}) + "\n")
        replace_text(workdir / "config.json", to_json(config))
