"""The front door: launch.py, or `imagenet-jax`, [VERB] [--config=NAME] [--config.FIELD=VALUE] ...

Flags and process start-up, nothing else. `--help` lists the verbs.
"""

import dataclasses
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax import __version__
from imagenet_jax.config import apply_overrides, flatten, validate
from imagenet_jax.errors import CRASHED, FAILED, STOPPED, ConfigError, UserError
from imagenet_jax.hosts.children import end_with_parent
from imagenet_jax.hosts.launchers import find_launcher
from imagenet_jax.hosts.launchers.job import CHECKOUT, Job, own_program
from imagenet_jax.hosts.process import (
    code_sha256,
    end_at_sigterm,
    is_first,
    is_one_of_many,
    is_runtime_error,
    own_job,
    start_process,
)
from imagenet_jax.printable import printable_lines
from imagenet_jax.reports.services import services_of
from imagenet_jax.reports.workdir import check_output
from imagenet_jax.reports.writers import write_summary
from imagenet_jax.terminal import say, silence, working
from imagenet_jax.verbs import VERBS
from imagenet_jax.verbs.flags import parse


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit status, see `errors`."""
    try:
        end_with_parent()
        args = parse(argv)
        if args.launcher != "local" and args.verb != "sweep":
            return launch(args, argv)
        if args.dry_run and args.verb == "sweep":
            raise ConfigError("--dry_run: a sweep starts its runs itself and prints what it does")
        if args.dry_run or (args.max_restarts and args.launcher == "local"):
            raise ConfigError(
                "--dry_run and --max_restarts go with a --launcher, e.g. processes:2x2"
            )
        summary = run(args)
        if summary is not None and is_first():
            show(args, summary)
    except UserError as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"{error.filename or args.workdir}: {error.strerror or error}")
    except KeyboardInterrupt:
        return failed("interrupted; the same command goes on where it can", STOPPED)
    except Exception as error:
        return crashed(error)
    if summary is None:
        return STOPPED
    if is_first() and (errors := summary.get("errors")):  # of a part, beside the answers for others
        return failed("; ".join(error["error"] for error in errors))
    return 0


def show(args: Namespace, summary: dict[str, Any]) -> None:
    """Prints the result of a verb, and writes it to the file of --json."""
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        write_summary(Path(args.json), summary)
    try:
        print(printable_lines(VERBS[args.verb].text(summary)), flush=True)
        if commands := VERBS[args.verb].next(args, summary):
            print("next:", *(printable_lines(command) for command in commands), sep="\n  ")
    except BrokenPipeError:  # nobody reads on, as in `launch.py models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: Namespace) -> dict[str, Any] | None:
    """Checks the command line and runs its verb in this process; None if a signal stopped it."""
    job = own_job()
    if job is not None:  # first: if this process failed before it joined, the others would wait
        start_process(job, args.start_timeout)
    if args.json:
        check_output(Path(args.json), "--json")
    config = make_config(args, here=True)
    if not is_first():
        silence()
    if title := VERBS[args.verb].title(args, config):
        say(f"imagenet_jax {__version__}: {title}")
    if job is not None:
        from imagenet_jax.hosts.coordination import check_same, versions  # they import JAX

        facts = {f"config.{name}": value for name, value in flatten(config)}
        facts |= {"verb": args.verb, **versions(), "code": code_sha256()}
        check_same(facts, args.start_timeout)
    elif VERBS[args.verb].needs_jax:
        with working("starting JAX"):
            start_process(None)
    return VERBS[args.verb].run(args, config)


def launch(args: Namespace, argv: Sequence[str]) -> int:
    """Checks the config, then hands this command line to the launcher."""
    flags = ("--launcher", "--max_restarts", "--config", "--workdir")
    folder, config = CHECKOUT, None
    if args.config:
        config = Path(args.config).resolve()
        config = config.relative_to(folder) if config.is_relative_to(folder) else config
    job = Job(
        arguments=without_flags([a for a in argv if a != "--dry_run"], flags),
        config=config,
        workdir=args.workdir,
        folder=folder,
        program=own_program(),
        restarts=args.max_restarts,
    )
    start = find_launcher(args.launcher)
    if args.launcher.startswith(("tpu-vm", "gke")) and not (folder / "launch.py").is_file():
        raise ConfigError(
            f"--launcher={args.launcher}: its machines get a copy of the folder of launch.py; "
            "start it there, in a checkout of the repository"
        )
    checked = make_config(args, here=args.launcher.startswith("processes"))
    if args.verb == "train":
        job = dataclasses.replace(job, services=services_of(checked))
    return start(job, args.dry_run)


def without_flags(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The command line less some flags, as --flag=VALUE or --flag VALUE."""
    kept, arguments = [], iter(argv)
    for argument in arguments:
        if argument in flags:
            next(arguments, None)
        elif not argument.startswith(tuple(f"{flag}=" for flag in flags)):
            kept.append(argument)
    return kept


def failed(message: str, status: int = FAILED) -> int:
    """Prints the message and gives the exit status; ends the job if there are other processes."""
    message = printable_lines(message)
    print(f"error: {message}", file=sys.stderr, flush=True)
    if is_one_of_many():
        from imagenet_jax.hosts.ending import end_job

        end_job(message, status)  # the others may wait for this one in a collective
    return status


def crashed(error: Exception) -> int:
    """As `failed`, for what is no mistake of the person at the terminal."""
    if is_runtime_error(error) and "RESOURCE_EXHAUSTED" in str(error):
        return failed(
            f"the devices are out of memory: {error}. Lower config.batch_size, or keep it "
            "and raise config.accumulate"
        )
    if isinstance(error, MemoryError):
        return failed(
            f"this machine is out of memory: {error}. Lower config.batch_size, "
            "config.data.image_size or config.data.prefetch"
        )
    if is_one_of_many():
        from imagenet_jax.hosts.ending import await_ending

        await_ending(2.0)  # another process may have failed, and this one in consequence
    traceback.print_exception(error)
    if is_runtime_error(error):
        return failed("a compiled program failed, or another process of this job", CRASHED)
    return failed(f"{type(error).__name__}, which nobody foresaw", CRASHED)


def make_config(args: Namespace, *, here: bool) -> ml_collections.ConfigDict:
    """The config of the verb with the overrides, checked as far as that goes without JAX.

    Args:
      args: see `parse`.
      here: whether the verb runs on this machine.

    Raises:
      UserError: see `verbs.Verb`.
    """
    verb = VERBS[args.verb]
    config = verb.load(args)
    apply_overrides(config, args.overrides)
    validate(config)
    verb.check(args, config, here)
    return config


def start() -> None:
    """The program: ends the process."""
    end_at_sigterm()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # where it is not UTF-8, as with LANG=C
    status = main(sys.argv[1:])
    if sys.stdout:
        sys.stdout.flush()
    if status == STOPPED and is_one_of_many():
        sys.exit(status)  # together with the others
    if status:
        # Else an input that hangs is waited for, and Orbax's threads bury the message.
        os._exit(status)
