"""The front door: python launch.py [VERB] [--config=FILE] [--workdir=DIR] [--config.FIELD=VALUE]

Flags and process start-up, nothing else. README.md explains the verbs.
"""

import argparse
import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config import apply_overrides, flatten, validate
from imagenet_jax.errors import CRASHED, FAILED, STOPPED, ConfigError, UserError
from imagenet_jax.hosts.children import end_with_parent
from imagenet_jax.hosts.launchers import find_launcher
from imagenet_jax.hosts.launchers.job import Job
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
from imagenet_jax.verbs import VERBS
from imagenet_jax.verbs.verb import number


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit status, see `errors`."""
    try:
        end_with_parent()
        args = parse(argv)
        if args.launcher != "local" and args.verb != "sweep":
            return launch(args, argv)
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


def show(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    """Prints the result of a verb, and writes it to the file of --json."""
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        write_summary(Path(args.json), summary)
    try:
        print(printable_lines(VERBS[args.verb].text(summary)), flush=True)
    except BrokenPipeError:  # nobody reads on, as in `launch.py models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Checks the command line and runs its verb in this process; None if a signal stopped it."""
    job = own_job()
    if job is not None:  # first: if this process failed before it joined, the others would wait
        start_process(job, args.start_timeout)
    if args.json:
        check_output(Path(args.json), "--json")
    config = make_config(args, here=True)
    if job is not None:
        from imagenet_jax.hosts.coordination import check_same, versions  # they import JAX

        facts = {f"config.{name}": value for name, value in flatten(config)}
        facts |= {"verb": args.verb, **versions(), "code": code_sha256()}
        check_same(facts, args.start_timeout)
    elif VERBS[args.verb].needs_jax:
        start_process(None)
    return VERBS[args.verb].run(args, config)


def launch(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks the config, then hands this command line to the launcher."""
    flags = ("--launcher", "--max_restarts", "--config", "--workdir")
    folder, config = Path(__file__).resolve().parent, None
    if args.config:
        config = Path(args.config).resolve()
        config = config.relative_to(folder) if config.is_relative_to(folder) else config
    job = Job(
        arguments=without_flags([a for a in argv if a != "--dry_run"], flags),
        config=config,
        workdir=args.workdir,
        folder=folder,
        python=sys.executable,
        restarts=args.max_restarts,
    )
    start = find_launcher(args.launcher)
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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, with `overrides` {"FIELD": "VALUE"} among them. Raises ConfigError."""
    argv, verb = list(argv), "train"
    if argv and not argv[0].startswith("-"):
        verb = argv.pop(0)
    if verb not in VERBS:
        raise ConfigError(f"there is no verb {verb!r}; there are {', '.join(VERBS)}")
    verbs = "\n".join(f"  {name:10} {known.meaning}" for name, known in VERBS.items())
    parser = argparse.ArgumentParser(
        prog=f"launch.py {verb}",
        description=f"{VERBS[verb].meaning}. Verbs, the first of which is the default:\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.FIELD=VALUE sets a field of the config, e.g. --config.batch_size=64; "
        "imagenet_jax/config/ lists them (schema.py, model_fields.py, data_fields.py)",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="a config file; default: configs/quickstart.py")
    parser.add_argument("--workdir", help="where the run is kept; default: runs/CONFIG_NAME")
    parser.add_argument("--json", help="also write the result to this file as JSON")
    parser.add_argument(
        "--launcher",
        default="local",
        help="local: this process. processes:NxD: N processes that work together on this machine, "
        "with D virtual CPU devices each: several hosts in miniature. slurm:..., tpu-vm:..., "
        "gke:...: on a cluster; docs/scale-out.md has their options",
    )
    parser.add_argument(
        "--max_restarts",
        type=number(int, least=0),
        default=0,
        help="of a launcher, after a process was preempted, killed, hung or crashed",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="of a launcher: print what would run"
    )
    parser.add_argument(
        "--start_timeout",
        type=number(int, least=1, most=10**6),
        default=300,
        help="seconds to wait for other processes",
    )
    VERBS[verb].add_flags(parser)
    fields = [arg for arg in argv if arg.startswith("--config.")]
    for field in fields:
        if "=" not in field:
            raise ConfigError(f"{field}: write it as {field}=VALUE")
    args = parser.parse_args([arg for arg in argv if arg not in fields])
    args.verb = verb
    if "://" in (args.workdir or ""):
        raise ConfigError(f"--workdir={args.workdir} is a URL; give the path of a mounted folder")
    default = Path(str(args.config or "quickstart").partition(".py:")[0]).stem
    if getattr(args, "model", ""):
        default = f"{verb}/{args.model}"
    args.config = args.config and os.path.expanduser(args.config)
    args.json = args.json and os.path.expanduser(args.json)
    args.workdir = Path(os.path.expanduser(args.workdir or f"runs/{default}"))
    args.program = str(Path(__file__).resolve())
    args.overrides = dict(f.removeprefix("--config.").split("=", 1) for f in fields)
    return args


def make_config(args: argparse.Namespace, *, here: bool) -> ml_collections.ConfigDict:
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


if __name__ == "__main__":
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
