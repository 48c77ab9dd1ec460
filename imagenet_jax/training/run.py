"""A run: its state, and what becomes of it: resumed, evaluated, saved, finished."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import tqdm
from jax.experimental import multihost_utils

from imagenet_jax.atomic import replace_text
from imagenet_jax.config import to_json
from imagenet_jax.data import Split
from imagenet_jax.devices.parallel import peak_bytes
from imagenet_jax.errors import CheckpointError, DivergenceError
from imagenet_jax.hosts.preemption import StopRequested, StopRequests
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.printable import printable_lines
from imagenet_jax.reports.curves import plot_curves
from imagenet_jax.reports.outputs import Outputs
from imagenet_jax.reports.report import pictures_of, run_facts
from imagenet_jax.reports.workdir import REPORT
from imagenet_jax.reports.writers import write_summary
from imagenet_jax.terminal import working
from imagenet_jax.training.changes import check_changes
from imagenet_jax.training.checkpoint import Checkpoints, Record
from imagenet_jax.training.clock import Clock
from imagenet_jax.training.concerns import Concerns
from imagenet_jax.training.data_dependent import data_dependent_variables
from imagenet_jax.training.evaluate import write_report
from imagenet_jax.training.evaluations import Evaluation, Evaluations
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.guard import SkippedUpdates, facts_of
from imagenet_jax.training.position import course_of
from imagenet_jax.training.program import Program, make_program
from imagenet_jax.training.stages import Stage
from imagenet_jax.training.state import TrainState, state_sha256
from imagenet_jax.training.suites import Suites
from imagenet_jax.training.teacher_weights import marked_variables


class Run:
    """A run between its start and its end: the state, and where its facts go."""

    def __init__(
        self,
        program: Program,
        workdir: Path,
        train_split: Split,
        eval_split: Split,
        checkpoints: Checkpoints,
        stop: StopRequests,
        suites: Suites | None = None,
    ):
        self.program, self.config, self.workdir = program, program.config, workdir
        self.task = program.task
        self.train_split, self.eval_split = train_split, eval_split
        self.checkpoints, self.stop, self.suites = checkpoints, stop, suites
        self.is_main = jax.process_index() == 0
        self.clock = Clock()
        self.state: TrainState | None = None
        self.teacher: tuple[Any, ...] = ()  # what the step takes beside state and batch
        self.teacher_mark: int | None = None  # tells these weights from others
        self.step = self.saved_step = 0
        self.evaluation_due = False  # that of `step` is still to be done
        self.skipped = SkippedUpdates(self.config.optim.nonfinite)
        self.pending: list[Any] = []  # sums of the steps since the last log, on the devices
        self.evaluations = Evaluations(train_split, eval_split, stop, suites)
        self.concerns = Concerns(self.task, self.say)
        self.last_eval: tuple[int, Evaluation] | None = None
        self.statistics_of: int | None = None  # step of whose average the statistics are
        self.best_score, self.evaluations_since = None, 0  # for config.eval.patience

    def resume(self, allow_config_change: bool | Sequence[str]) -> None:
        """Takes up the newest good checkpoint, or starts from scratch."""
        doing("reading a checkpoint")

        def check(step: int, record: Record) -> None:
            where = f"checkpoint {step} in {self.workdir}"
            check_changes(record, self.config, self._data(), allow_config_change, where)

        restored = self.checkpoints.restore(
            self.program.state_shapes(), check=check, set_aside_damaged=True
        )
        if restored:
            self._take_up(*restored)
            others = ("distill", "distill.weights", "distill.model")
            if allow_config_change is True or {*others} & {*(allow_config_change or ())}:
                self.teacher_mark = None
        else:
            doing("compiling", limited=False)
            with working("making the initial values"):
                start = starting_variables(self.program) or data_dependent_variables(
                    self.program, lambda: self.train_split
                )
                self.state = self.program.init_state(start)
        multihost_utils.assert_equal(self.step, "processes see other checkpoints; share --workdir")
        if self.is_main:
            replace_text(self.workdir / "config.json", to_json(self.config))

    def _take_up(self, state: TrainState, record: Record) -> None:
        """Goes on from a checkpoint, in the data after the examples that it has seen."""
        self.state, self.clock = state, Clock.of_record(record["clock"])
        self.step = self.saved_step = record["position"]["step"]
        self.best_score, self.evaluations_since = record.get("patience", (None, 0))
        self.evaluation_due = record.get("evaluation_due", False)
        self.statistics_of = record.get("statistics_of")
        self.teacher_mark = record.get("teacher")
        course = course_of(self.config, record)
        if course != self.program.course:  # its schedule is another one
            examples = self.train_split.num_examples
            self.program = make_program(
                self.task, self.program.mesh, num_examples=examples, course=course
            )
        total = self.program.total_steps
        over = self.step >= total or self.out_of_patience
        state = "already finished" if over and not self.evaluation_due else "resumed"
        self.say(f"{state}: step {self.step} of {total} in {self.workdir}")
        for change in check_changes(record, self.config, self._data(), True, ""):
            self.say(f"  with {change}")

    def find_teacher(self) -> None:
        """Reads the weights of config.distill.

        Raises:
          UserError: see `teacher_variables`; or if they are no longer those of the checkpoint.
        """
        doing("reading the teacher", limited=False)
        with working("reading the teacher", stays=False):
            self.teacher, mark = marked_variables(self.program)
        if self.teacher_mark not in (None, mark):
            raise CheckpointError(
                f"config.distill.weights = {self.config.distill.weights!r} are not the weights "
                f"that taught checkpoint {self.step} in {self.workdir}. Use another --workdir, the "
                "old weights, or --allow_config_change=distill.weights to go on"
            )
        self.teacher_mark = mark

    def catch_up(self, out: Outputs) -> bool:
        """Does the evaluation that a signal prevented before; False if one does so again."""
        found = self.evaluate(out)
        if found is not None:
            self.checkpoints.add_score(self.step, self.task.score(found.result))
        return found is not None

    def end_early(self, out: Outputs) -> bool:
        """Saves what a signal interrupted; False."""
        if self.pending:
            self.log(out)
        self.save()
        self.checkpoints.wait()
        self.say(f"stopped at step {self.step}; the same command line continues")
        return False

    def log(self, out: Outputs) -> None:
        """Fetches the sums since the last log and writes their means."""
        sums, self.pending = jax.device_get(self.pending), []
        try:
            kept = self.skipped.kept(sums, self.step - len(sums) + 1)
        except DivergenceError as error:
            rate = self.config.optim.learning_rate
            raise self.checkpoints.diverged(str(error), rate) from None
        self.clock.tick(training=True)
        means = self.task.summarize(kept) if kept else {}
        self.concerns.look("training", self.step, means)
        out.write(
            self.step,
            {
                "epoch": self.epochs(self.step),
                **{f"train/{name}": means[name] for name in self.task.train_metrics if kept},
                **facts_of(sums, kept),
                "learning_rate": float(self.program.learning_rate(self.step - 1)),
                "images_per_second": self.clock.images_per_second,
                "input_wait_fraction": self.clock.input_wait_fraction,
            },
        )

    def evaluate(self, out: Outputs | None = None) -> Evaluation | None:
        """Evaluates the current state, once per step; None if a signal came between."""
        if self.last_eval and self.last_eval[0] == self.step:
            return self.last_eval[1]
        with self.clock.paused():
            try:
                what = self.program, self.state, self.step
                self.state, found = self.evaluations.evaluate(*what)
            except StopRequested:
                return None
            except Exception:
                if out and jax.process_count() == 1:  # an error need not cost the training
                    self.save()
                raise
        self.concerns.look("evaluation", self.step, found.result)
        self.last_eval, self.evaluation_due = (self.step, found), False
        self.statistics_of = self.step if self.config.eval.norm_batches else self.statistics_of
        score = self.task.score(found.result)
        better = self.best_score is None or score > self.best_score
        self.best_score = score if better else self.best_score
        self.evaluations_since = 0 if better else self.evaluations_since + 1
        if out:
            out.write(self.step, found.metrics(self.task))
            rows = found.rows(self.task, self.suites)
            out.evaluated(self.step, found.result["split"], rows)
        return found

    def save(self) -> None:
        """Starts to write a checkpoint of the current step, if there is none yet."""
        if self.step == self.saved_step:
            return
        doing(f"the checkpoint of step {self.step}")
        jax.block_until_ready(self.state)
        with self.clock.paused(), self.clock.stall():
            score = None
            if self.last_eval and self.last_eval[0] == self.step:
                score = self.task.score(self.last_eval[1].result)
            record = {
                "config": self.config.to_dict(),
                "position": self.program.course.position(self.step, self.program.num_examples),
                "evaluation_due": self.evaluation_due,
                "clock": dataclasses.asdict(self.clock),
                "data": self._data(),
                "patience": [self.best_score, self.evaluations_since],
                "statistics_of": self.statistics_of,
                **({"teacher": self.teacher_mark} if self.teacher else {}),
            }
            self.checkpoints.save(self.step, self.state, record, score)
        self.saved_step = self.step

    def finish(self, out: Outputs | None = None) -> dict[str, Any] | None:
        """Waits for the last checkpoint and writes summary.json and curves.png; None if a signal
        stops it. `out` gets the pictures of what goes wrong."""
        doing("the last checkpoint and the summary")
        if out:
            out.training_done()
        self.checkpoints.wait()
        self.stop.at_once = True
        self.clock.tick(training=False)
        trained_steps, trained_epochs = self.step, self.epochs(self.step)
        if self.config.eval.report == "best":
            self.state, record = self.checkpoints.restore(self.program.state_shapes(), which="best")
            self.step = record["position"]["step"]
        found = self.evaluate()
        if found is None:
            return None
        self.clock.tick(training=False)
        summary = {
            **run_facts(self.config),
            "step": self.step,
            "trained_steps": trained_steps,
            "epochs": trained_epochs,
            **self.clock.facts(),
            "state_sha256": state_sha256(self.state),
            "eval": found.result,
            **({"eval_raw": found.raw} if found.raw else {}),
            **({"suites": self.suites.results} if self.suites else {}),
            "report": write_report(self.task, found.meter, self.eval_split, self.workdir / REPORT),
        }
        if self.is_main:
            write_summary(self.workdir / "summary.json", summary)
            try:
                best = self.task.best_of(self.config)
                plot_curves(self.workdir, self.config, best, self.eval_split.name)
            except OSError as error:  # a full disk
                self.say(f"warning: curves.png cannot be written: {error}")
            if out:
                out.write_images(self.step, pictures_of(summary["report"]))
            self.say(f"finished; everything is in {self.workdir}")
        return summary

    @property
    def out_of_patience(self) -> bool:
        """Whether nothing has become better for config.eval.patience evaluations."""
        return 0 < self.config.eval.patience <= self.evaluations_since

    def _data(self) -> dict[str, Any]:
        """What the order of the data and the meaning of the outputs depend on."""
        return {"num_examples": self.train_split.num_examples, **self.task.facts()}

    def say(self, text: str) -> None:
        if self.is_main:
            tqdm.tqdm.write(printable_lines(text))  # clear of the progress bar

    def compile(self, stages: Sequence[Stage]) -> list[jax.stages.Compiled]:
        """Compiles the steps of all stages before the first batch, so that the loop never does."""
        doing("compiling", limited=False)
        self.clock.tick(training=False)
        start = time.perf_counter()
        train_steps = [stage.program.compile_train_step() for stage in stages]
        self.evaluations.compile(self.program)
        if train_steps:
            largest = max(train_steps, key=peak_bytes)
            self.checkpoints.compile(self.program.state_shapes(), largest)
        self.clock.compile_seconds = time.perf_counter() - start
        return train_steps

    def epochs(self, step: int) -> float:
        """That are done after a step."""
        return self.program.course.examples(step) / self.program.num_examples
