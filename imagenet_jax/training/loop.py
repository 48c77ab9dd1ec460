"""The training loop: train, evaluate, log and save, until the end or a signal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from imagenet_jax.data import check_splits
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.hosts.lock import workdir_lock
from imagenet_jax.hosts.preemption import StopRequested, stop_requests
from imagenet_jax.hosts.watchdog import doing, watchdog
from imagenet_jax.reports.outputs import Outputs, make_workdir
from imagenet_jax.reports.report import say_facts
from imagenet_jax.reports.writers import Tracking
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.terminal import say, working
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.evaluate import bank_for, say_bank
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.first_batch import write_first_batch
from imagenet_jax.training.program import make_program
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.pruning import say_pruning
from imagenet_jax.training.run import Run
from imagenet_jax.training.stages import make_stages, stage_batches, steps_of_stages
from imagenet_jax.training.suites import Suites


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    tracking: Sequence[Tracking] = (),
    allow_config_change: bool | Sequence[str] = False,
) -> dict[str, Any] | None:
    """Trains until the end of config.duration, resuming from `workdir` if it holds a run.

    Args:
      config: see `schema.SCHEMA`.
      workdir: gets config.json, checkpoints/, metrics.jsonl, curves.png, evaluation/ and
        summary.json; one run at a time, see `hosts.lock`.
      tracking: more writers and hooks, see `tracking.make_tracking`.
      allow_config_change: go on although the config is not the one of the checkpoint, or only
        these fields of it; the data go on where they were, whatever the batch size.

    Returns:
      The summary that was written, or None if a signal stopped the run before its end.

    Raises:
      UserError: one of `errors`, with a message for the person at the terminal.
    """
    mesh = make_mesh(config.sharding)
    check_config(config, mesh)
    make_workdir(workdir)
    with stop_requests() as stop, workdir_lock(workdir), watchdog(config.hang_timeout):
        with working(f"opening {config.data.name}"):
            train_split, eval_split = (task_split(config, train=train) for train in (True, False))
            task = make_task(config, train_split)
            check_splits(train_split, eval_split, open_set=task.is_open_set)
            task.meter(eval_split)  # which finds early what is wrong with the split
        with working("building the program"):
            program = make_program(task, mesh, num_examples=train_split.num_examples)
        say_facts(program, train_split, eval_split)
        say_pruning(program)
        if bank := bank_for(task, train_split):
            say_bank(bank, train_split)
        suites = Suites(program) if config.eval.suites else None
        if suites:
            say(f"{'suites':8} {suites.about} more at each evaluation")
        with Checkpoints(
            workdir / "checkpoints",
            keep=config.checkpoint.keep,
            keep_best=config.checkpoint.keep_best,
        ) as checkpoints:
            run = Run(program, workdir, train_split, eval_split, checkpoints, stop, suites)
            run.resume(allow_config_change)
            return loop(run, tracking)


def loop(run: Run, tracking: Sequence[Tracking]) -> dict[str, Any] | None:
    """Trains from the step that a run is at to its end; its summary, None if a signal stops it."""
    total = run.program.total_steps
    if (run.step >= total or run.out_of_patience) and not run.evaluation_due:
        return run.finish()
    shown = (run.workdir, run.step, total, run.config, tracking, run.task.formats, run.epochs)
    with Outputs(*shown, evaluation_due=run.evaluation_due) as out:  # if one fails, then now
        return run.finish(out) if _take_steps(run, out) else None


def _take_steps(run: Run, out: Outputs) -> bool:
    """Compiles the step and takes those that are left; False if a signal stopped it before."""
    config, program, clock, course = run.config, run.program, run.clock, run.program.course
    total = program.total_steps
    stages = make_stages(program, run.step)
    run.find_teacher()
    compiled = run.compile(stages)
    if run.step == 0 and out.takes_images:
        problem = write_first_batch(stages[0].program, run.train_split, run.state, out)
        if problem:
            run.say(f"warning: {problem}")
    log_every = program.interval(config.log.every)
    eval_every = program.interval(config.eval.every)
    save_every = program.interval(config.checkpoint.every)
    batches = stage_batches(stages, run.train_split, run.step, total)

    with Feed(batches, program.mesh, clock, check_wait=run.stop.check_wait) as feed:
        clock.tick(training=False)
        if run.evaluation_due and not run.catch_up(out):
            return False
        first = run.step + 1
        for step, train_step in steps_of_stages(stages, compiled, run.step):
            if run.out_of_patience:
                break
            doing(f"the input of step {step}")
            try:
                with jax.transfer_guard("disallow"):
                    batch = feed.next(running=run.pending[-1:])
                    run.stop.at_once = False
                    run.state, sums = train_step(run.state, batch, *run.teacher)
            except StopRequested:
                return run.end_early(out)
            doing(f"step {step} on the devices, whose collectives wait for every process")
            run.step = step
            run.pending.append(sums)
            # No more than two steps in flight, or their batches would fill the memory.
            jax.block_until_ready(run.pending[-3:-2])
            if step == first:
                jax.block_until_ready(sums)
                clock.first_step()
            clock.images += config.batch_size
            out.step_done(step)

            stop = run.stop.reached()
            run.evaluation_due = step == total or course.is_due(step, eval_every)
            save = step == total or course.is_due(step, save_every)
            if save or course.is_due(step, log_every):
                run.log(out)
            if run.evaluation_due and not stop:
                save |= config.eval.report == "best"
                stop = run.evaluate(out) is None
            if stop:
                return run.end_early(out)
            if save or run.out_of_patience:
                run.save()
    if run.out_of_patience:
        count = run.evaluations_since
        run.say(f"no better {run.task.best_of(config)} in {count} evaluations: stopped")
    return True
