"""The front door: python launch.py [VERB] [--config=FILE] [--workdir=DIR] [--config.FIELD=VALUE]

Flags and process start-up, nothing else. README.md explains the verbs.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections

from imagenet_jax.classifier import pretrained_config
from imagenet_jax.config import apply_overrides, flatten, from_json, load_config, validate
from imagenet_jax.coordination import check_same, versions
from imagenet_jax.data.catalog import evaluation_split
from imagenet_jax.errors import CRASHED, FAILED, STOPPED, ConfigError, UserError
from imagenet_jax.launchers import find_launcher
from imagenet_jax.launchers.job import Job
from imagenet_jax.process import code_sha256, start_process
from imagenet_jax.verbs import VERBS
from imagenet_jax.writers import write_summary

QUICKSTART = Path(__file__).resolve().parent / "configs" / "quickstart.py"


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit status, see `errors`."""
    try:
        args, overrides = parse(argv)
        if args.launcher != "local" and args.verb != "sweep":
            return launch(args, overrides, argv)
        if args.dry_run or (args.max_restarts and args.launcher == "local"):
            raise ConfigError(
                "--dry_run and --max_restarts go with a --launcher, e.g. processes:2x2"
            )
        start_process(args.start_timeout)
        config = make_config(args, overrides)
        facts = {f"config.{name}": value for name, value in flatten(config)}
        facts |= {"verb": args.verb, **versions(), "code": code_sha256()}
        check_same(facts, args.start_timeout)
        summary = VERBS[args.verb].run(args, config)
    except UserError as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"{error.filename or args.workdir}: {error.strerror or error}")
    except KeyboardInterrupt:
        return failed("interrupted; the same command goes on where it can", STOPPED)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return failed(
                f"the devices are out of memory: {error}. Lower config.batch_size, or keep it "
                "and raise config.accumulate"
            )
        traceback.print_exc()
        return failed("a compiled program failed, or another process of this job", CRASHED)
    except Exception as error:
        traceback.print_exc()
        return failed(f"{type(error).__name__}, which nobody foresaw", CRASHED)
    if summary is None:
        return STOPPED
    if not jax.distributed.is_initialized() or jax.process_index() == 0:
        print(VERBS[args.verb].text(summary))
        if args.json:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            write_summary(Path(args.json), summary)
    return 0


def launch(args: argparse.Namespace, overrides: dict[str, str], argv: Sequence[str]) -> int:
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
    make_config(args, overrides)
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
    print(f"error: {message}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        # The others may wait for this one in a collective: leaving at once ends them all.
        os._exit(status)
    return status


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Splits the command line into flags and {"FIELD": "VALUE"}. Raises ConfigError."""
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
        "imagenet_jax/schema.py lists them",
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
        type=int,
        default=0,
        help="of a launcher, after a process was preempted, killed, hung or crashed",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="of a launcher: print what would run"
    )
    parser.add_argument(
        "--start_timeout", type=int, default=300, help="seconds to wait for other processes"
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
    default = Path(str(args.config or QUICKSTART).partition(".py:")[0]).stem
    if getattr(args, "model", ""):
        default = f"{verb}/{args.model}"
    args.workdir = Path(args.workdir or f"runs/{default}")
    args.program = str(Path(__file__).resolve())
    args.overrides = dict(f.removeprefix("--config.").split("=", 1) for f in fields)
    return args, args.overrides


def make_config(args: argparse.Namespace, overrides: dict[str, str]) -> ml_collections.ConfigDict:
    """The config file with the overrides.

    `evaluate` and `predict` default to the config of the run, or to that of pretrained weights.
    """
    saved = args.workdir / "config.json"
    model = getattr(args, "model", "")
    if model and args.config:
        raise ConfigError("--model brings its own config; set its fields by --config.FIELD=VALUE")
    if not model:
        for flag in ("weights", "dataset", "split"):
            if args.verb in ("evaluate", "predict") and getattr(args, flag, ""):
                raise ConfigError(f"--{flag} goes with --model; a run has --config.data.name")
    if model:
        config = pretrained_config(args.model)
        if args.verb == "evaluate":
            config.data.name = args.dataset or config.data.name
            config.data.dir = overrides.get("data.dir", "")
            split = args.split or evaluation_split(config.data.name, config.data.dir)
            config.data.eval_split = split
    elif args.verb in ("evaluate", "predict") and not args.config and saved.exists():
        try:
            config = from_json(saved.read_text())
        except ValueError as error:
            raise ConfigError(f"{saved} cannot be read: {error}") from error
    else:
        config = load_config(args.config or QUICKSTART)
    apply_overrides(config, overrides)
    validate(config)
    return config


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    if status == STOPPED:
        sys.exit(status)
    if status:
        os._exit(status)  # else orbax's threads bury the message under tracebacks of their own
