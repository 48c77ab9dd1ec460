"""The training loop: resume, train, evaluate, save, and end with a summary."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import tqdm
from jax.experimental import multihost_utils

from imagenet_jax.config import differences, from_dict, to_json
from imagenet_jax.data import Split, check_splits
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import CheckpointError
from imagenet_jax.hosts.preemption import stop_requests
from imagenet_jax.hosts.watchdog import doing, watchdog
from imagenet_jax.reports.outputs import Outputs, make_workdir
from imagenet_jax.reports.report import run_facts
from imagenet_jax.reports.writers import Tracking, plot_curves, replace_text, write_summary
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.training.checkpoint import Checkpoints, Record
from imagenet_jax.training.clock import Clock
from imagenet_jax.training.evaluate import evaluate_split
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.program import Program, check_config, make_program
from imagenet_jax.training.state import TrainState, state_sha256

# What a run may be resumed with another value of: the numbers stay what they were.
_ELASTIC = ("sharding", "partitioner", "compiler_options", "hang_timeout")


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    tracking: Sequence[Tracking] = (),
    allow_config_change: bool = False,
) -> dict[str, Any] | None:
    """Trains until the end of config.duration, resuming from `workdir` if it holds a run.

    Args:
      config: see `schema.SCHEMA`.
      workdir: gets config.json, checkpoints/, metrics.jsonl, curves.png and summary.json.
      tracking: more writers and hooks, see `tracking.make_tracking`.
      allow_config_change: go on although the config is not the one of the checkpoint.

    Returns:
      The summary that was written, or None if a signal stopped the run before its end.

    Raises:
      UserError: one of `errors`, with a message for the person at the terminal.
    """
    mesh = make_mesh(config.sharding)
    check_config(config, mesh)
    make_workdir(workdir)
    train_split, eval_split = task_split(config, train=True), task_split(config, train=False)
    check_splits(train_split, eval_split)
    task = make_task(config, train_split)
    program = make_program(task, mesh, num_examples=train_split.num_examples)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
    run = Run(program, workdir, train_split, eval_split, checkpoints)
    with contextlib.closing(checkpoints), watchdog(config.hang_timeout):
        run.resume(allow_config_change)
        if not run.loop(tracking):
            return None
        return run.finish()


class Run:
    """A run between its start and its end: the state, and where its facts go."""

    def __init__(
        self,
        program: Program,
        workdir: Path,
        train_split: Split,
        eval_split: Split,
        checkpoints: Checkpoints,
    ):
        self.program, self.config, self.workdir = program, program.config, workdir
        self.task = program.task
        self.train_split, self.eval_split = train_split, eval_split
        self.checkpoints = checkpoints
        self.is_main = jax.process_index() == 0
        self.clock = Clock()
        self.state: TrainState | None = None
        self.step = 0
        self.eval_step: Callable[..., Any] | None = None
        self.pending: list[Any] = []  # sums of the steps since the last log, on the devices
        self.last_eval: tuple[int, dict[str, Any]] | None = None
        self.best_score, self.evaluations_since = None, 0  # for config.eval.patience

    def resume(self, allow_config_change: bool) -> None:
        """Takes up the newest good checkpoint, or starts from scratch."""
        doing("reading a checkpoint")

        def check(step: int, record: Record) -> None:
            changes = differences(from_dict(record["config"]), self.config, ignore=_ELASTIC)
            changes += differences({"data set": record["data"]}, {"data set": self._data()})
            if changes and not allow_config_change:
                raise CheckpointError(
                    f"checkpoint {step} in {self.workdir} was written with another config or data "
                    + "set:\n  "
                    + "\n  ".join(changes)
                    + "\nUse another --workdir, the old values, or --allow_config_change to go on"
                )

        restored = self.checkpoints.restore(
            self.program.state_shapes(), check=check, set_aside_damaged=True
        )
        if restored:
            self.state, record = restored
            self.clock = Clock(**record["clock"])
            self.step = record["position"]["step"]
            self.best_score, self.evaluations_since = record.get("patience", (None, 0))
            total = self.program.total_steps
            over = self.step >= total or self.out_of_patience
            state = "already finished" if over else "resumed"
            self._say(f"{state}: step {self.step} of {total} in {self.workdir}")
        else:
            doing("compiling", limited=False)
            start = starting_variables(self.program)
            self.state = self.program.init_state(start)
        multihost_utils.assert_equal(self.step, "processes see other checkpoints; share --workdir")
        if self.is_main:
            replace_text(self.workdir / "config.json", to_json(self.config))

    def loop(self, tracking: Sequence[Tracking]) -> bool:
        """Trains from `step` to the end; False if a signal stopped it before."""
        config, program, clock = self.config, self.program, self.clock
        total = program.total_steps
        if self.step >= total or self.out_of_patience:
            return True
        train_step = self._compile()
        log_every = max(program.steps(config.log.every), 1)
        eval_every = program.steps(config.eval.every) or total
        save_every = max(program.steps(config.checkpoint.every), 1)
        rows = local_rows(program.mesh, config.batch_size)
        host_batches = self.train_split.train_batches(rows, self.step, total)

        with (
            stop_requests() as stop_requested,
            Outputs(self.workdir, self.step, total, config, tracking, self.task.formats) as out,
            Feed(host_batches, program.mesh, clock) as feed,
        ):
            clock.tick(training=False)
            first = self.step + 1
            for step in range(first, total + 1):
                doing(f"the input of step {step}")
                with jax.transfer_guard("disallow"):
                    batch = feed.next(running=self.pending[-1:])
                    self.state, sums = train_step(self.state, batch)
                doing(f"step {step} on the devices, whose collectives wait for every process")
                self.step = step
                self.pending.append(sums)
                # No more than two steps in flight, or their batches would fill the memory.
                jax.block_until_ready(self.pending[-3:-2])
                if step == first:
                    jax.block_until_ready(sums)
                    clock.first_step()
                clock.images += config.batch_size
                out.step_done(step)

                stop = stop_requested(step)
                evaluate = step == total or (step % eval_every == 0 and not stop)
                save = stop or step == total or step % save_every == 0
                save |= evaluate and config.eval.report == "best"
                if save or step % log_every == 0:
                    self.log(out)
                if evaluate:
                    self.evaluate(out, save_on_error=True)
                if save or self.out_of_patience:
                    self.save()
                if self.out_of_patience:
                    self._say(
                        f"no better {self.task.best} in {self.evaluations_since} "
                        "evaluations: stopped"
                    )
                    return True
                if stop and step < total:
                    self.checkpoints.wait()
                    self._say(f"stopped at step {step}; the same command line continues")
                    return False
        return True

    def log(self, out: Outputs) -> None:
        """Fetches the sums since the last log and writes their means."""
        sums, self.pending = jax.device_get(self.pending), []
        for number, part in enumerate(sums):
            if not math.isfinite(part["loss"]):
                step, rate = self.step - len(sums) + 1 + number, self.config.optim.learning_rate
                raise self.checkpoints.diverged(step, part["loss"], rate)
        self.clock.tick(training=True)
        means = self.task.summarize(sums)
        out.write(
            self.step,
            {
                "epoch": self._epochs(),
                **{f"train/{name}": means[name] for name in self.task.train_metrics},
                "learning_rate": float(self.program.learning_rate(self.step - 1)),
                "images_per_second": self.clock.images_per_second,
                "input_wait_fraction": self.clock.input_wait_fraction,
            },
        )

    def evaluate(self, out: Outputs | None = None, save_on_error: bool = False) -> dict[str, Any]:
        """Evaluates the current state, once per step; an error need not cost the training."""
        if self.last_eval and self.last_eval[0] == self.step:
            return self.last_eval[1]
        with self.clock.paused():
            self.eval_step = self.eval_step or self._compile_eval_step()
            variables = self.state.eval_variables()
            try:
                result = evaluate_split(self.program, self.eval_step, variables, self.eval_split)
            except Exception:
                if save_on_error:
                    self.save()
                raise
        self.last_eval = (self.step, result)
        score = self.task.score(result)
        better = self.best_score is None or score > self.best_score
        self.best_score = score if better else self.best_score
        self.evaluations_since = 0 if better else self.evaluations_since + 1
        if out:
            out.write(self.step, {f"eval/{name}": result[name] for name in self.task.eval_metrics})
        return result

    def save(self) -> None:
        """Starts to write a checkpoint of the current step."""
        doing(f"the checkpoint of step {self.step}")
        jax.block_until_ready(self.state)
        with self.clock.paused(), self.clock.stall():
            score = None
            if self.last_eval and self.last_eval[0] == self.step:
                score = self.task.score(self.last_eval[1])
            position = self.step * self.config.batch_size
            epoch, example = divmod(position, self.train_split.num_examples)
            record = {
                "config": self.config.to_dict(),
                "position": {"step": self.step, "epoch": epoch, "example": example},
                "clock": dataclasses.asdict(self.clock),
                "data": self._data(),
                "patience": [self.best_score, self.evaluations_since],
            }
            self.checkpoints.save(self.step, self.state, record, score)

    def finish(self) -> dict[str, Any]:
        """Waits for the last checkpoint and writes summary.json and curves.png."""
        doing("the last checkpoint and the summary")
        self.checkpoints.wait()
        self.clock.tick(training=False)
        trained_steps, trained_epochs = self.step, self._epochs()
        if self.config.eval.report == "best":
            self.state, record = self.checkpoints.restore(self.program.state_shapes(), which="best")
            self.step = record["position"]["step"]
        result = self.evaluate()
        self.clock.tick(training=False)
        summary = {
            **run_facts(self.config),
            "step": self.step,
            "trained_steps": trained_steps,
            "epochs": trained_epochs,
            **self.clock.facts(),
            "state_sha256": state_sha256(self.state),
            "eval": result,
        }
        if self.is_main:
            write_summary(self.workdir / "summary.json", summary)
            plot_curves(self.workdir, self.task.best)
            self._say(f"finished; everything is in {self.workdir}")
        return summary

    @property
    def out_of_patience(self) -> bool:
        """Whether nothing has become better for config.eval.patience evaluations."""
        return 0 < self.config.eval.patience <= self.evaluations_since

    def _data(self) -> dict[str, Any]:
        """What the order of the data and the meaning of the outputs depend on."""
        return {"num_examples": self.train_split.num_examples, **self.task.facts()}

    def _say(self, text: str) -> None:
        if self.is_main:
            tqdm.tqdm.write(text)  # clear of the progress bar

    def _compile(self) -> jax.stages.Compiled:
        """Compiles both steps before the first batch, so that the loop never does."""
        doing("compiling", limited=False)
        self.clock.tick(training=False)
        start = time.perf_counter()
        train_step = self.program.compile_train_step()
        self.eval_step = self._compile_eval_step()
        self.checkpoints.compile(self.program.state_shapes(), train_step)
        self.clock.compile_seconds = time.perf_counter() - start
        return train_step

    def _compile_eval_step(self) -> jax.stages.Compiled:
        return self.program.compile_eval_step(self.eval_split.num_examples)

    def _epochs(self) -> float:
        return self.step * self.config.batch_size / self.train_split.num_examples
