"""What README, docs/ and the guide for contributors say is so: links, commands, fields, files."""

import ast
import functools
import importlib
import importlib.util
import re
import shlex
import subprocess

import pytest
import yaml
from documents import PAGES, ROOT, anchors, blocks, command_lines, links, own_config, words_in_code

from imagenet_jax import __version__
from imagenet_jax.cli import make_config
from imagenet_jax.config import apply_overrides, base_config, flatten
from imagenet_jax.config.schema import SCHEMA, SECTIONS
from imagenet_jax.errors import UserError
from imagenet_jax.hosts.launchers import find_launcher
from imagenet_jax.verbs import VERBS
from imagenet_jax.verbs.flags import _parser, parse

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# Words that stand for something of the reader's.
PLACEHOLDERS = {
    **{"VERB": "train", "WORD": "seed", "CSV": "a.csv", "NAME": "resnet50", "FIELD": "seed"},
    **{"EXPERIMENT": "a", "PROJECT": "a", "N": "2", "VALUE": "1", "SOURCE": "fake"},
}
# Programs in commands whose flags are not ours.
OTHERS = (
    *(
        "pip",
        "curl",
        "pytest",
        "ruff",
        "git",
        "tensorboard",
        "bash",
        "tail",
        "docker",
        "kubectl",
        "env",
    ),
    *("grep", "~/venv/bin/pip", ".ci/run"),
)


@functools.cache
def tracked():
    """The files of the project."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, **TEXT)
    return tuple(listed.stdout.splitlines())


TEXT = {"capture_output": True, "text": True, "check": True}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the names of files in commands mean what they do for a reader."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    own_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@every_page
def test_links_lead_somewhere(page):
    for target in links(page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT) and file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 180
    pages = {target.partition("#")[0] for target in links(ROOT / "README.md")}
    assert {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")} <= pages


def simple_commands(line):
    """The commands of a line of bash, as lists of words without assignments before them."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            if command and word not in "<>":
                yield command
            command = [] if word not in "<>" else command
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):
            command.append(word)


def check_arguments(arguments, whole=True):
    """That a command line is taken, and its config as well; `whole`: whether all of it is there."""
    try:
        args = parse(arguments)
        if args.launcher != "local":
            find_launcher(args.launcher)
        if whole:
            make_config(args, here=False)
        else:
            apply_overrides(VERBS[args.verb].load(args), args.overrides)
    except SystemExit as end:
        assert not end.code, arguments
    except UserError as error:
        pytest.fail(f"{arguments}: {error}")


def check_script(script, arguments):
    """That a script of the project is there and knows these flags."""
    assert script in tracked(), script
    text = (ROOT / script).read_text()
    for flag in [word.partition("=")[0] for word in arguments if word.startswith("-")]:
        assert f'"{flag}"' in text, (script, flag)


@every_page
def test_commands_are_taken(page, folder):
    for block in blocks(page):
        assert block.language in ("bash", "python", ""), block
        for line in command_lines(block) if block.language == "bash" else ():
            for program, *arguments in simple_commands(line):
                if program.endswith("python") and arguments[0] == "launch.py":
                    check_arguments(arguments[1:])
                elif program == "imagenet-jax":
                    check_arguments(arguments)
                elif program == "python" and arguments[0].endswith(".py"):
                    check_script(*arguments[:1], arguments[1:])
                else:
                    assert program in OTHERS or arguments[:2] == ["-m", "venv"], line


@every_page
def test_commands_within_the_text_are_taken(page, folder):
    for code in words_in_code(page):
        words = re.sub(r"\b[A-Z]+\b", lambda word: PLACEHOLDERS.get(word[0], word[0]), code)
        try:
            words = shlex.split(words)
        except ValueError:
            continue  # a part of a text, as a character
        if words[:2] == ["python", "launch.py"] or words[:1] == ["launch.py"]:
            check_arguments(words[words.index("launch.py") + 1 :], whole=False)
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            check_script(words[1], words[2:])
        elif words[0] in VERBS:
            for flag in [word.partition("=")[0] for word in words[1:] if word.startswith("--")]:
                assert words[0] in flags().get(flag, ()), code
        elif words[0].startswith("--"):
            for word in words:
                check_flag(word)


@functools.cache
def flags():
    """{flag: the verbs that have it}."""
    found = {}
    for verb in VERBS:
        for action in _parser(verb)._actions:
            for flag in action.option_strings:
                found.setdefault(flag, []).append(verb)
    return found


def check_flag(word):
    name, _, value = word.partition("=")
    if name.startswith("--config."):
        field = name.removeprefix("--config.")
        assert field in SCHEMA, word
        if value:
            try:
                config = base_config()
                apply_overrides(config, {field: value})
            except UserError as error:
                pytest.fail(f"{word}: {error}")
            assert SCHEMA[field].test(dict(flatten(config))[field]), word
    elif name.startswith("--") and name not in flags() and not name.startswith("--xla_"):
        scripts = [file for file in tracked() if file.startswith(("benchmarks/", "tests/mut"))]
        texts = [(ROOT / file).read_text() for file in scripts]
        assert any(f'"{name.replace("--no-", "--")}"' in text for text in texts), word


@every_page
def test_fields_and_files_within_the_text_exist(page):
    sections = "|".join(filter(None, SECTIONS))
    for code in words_in_code(page):
        if field := re.fullmatch(rf"(?:config\.)?((?:{sections})\.[a-z_0-9]+)(=.*)?", code):
            name = field[1]
            assert name in SCHEMA or name.endswith((".yaml", ".onnx", ".tflite")), code
        if re.fullmatch(r"[\w./-]+\.(py|csv|md|json|cff|toml)(::\w+)?", code):
            path = code.partition("::")[0]
            ours = [file for file in tracked() if f"/{file}".endswith(f"/{path}")]
            assert ours or path in ELSEWHERE, code
            assert "::" not in code or code.partition("::")[2] in (ROOT / ours[0]).read_text()


# Files of a reader, of a run, of others.
ELSEWHERE = (
    "imagenet_to_gcs.py",
    *(
        "my_config.py",
        "config.json",
        "summary.json",
        "sweep.json",
        "verification.json",
        "export.json",
        "classes.json",
        "thresholds.json",
        "groups.csv",
        "evaluation/groups.csv",
    ),
    *("confusion.csv", "per_class.csv"),
)


@every_page
def test_programs_are_python_whose_imports_are_there(page):
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    there = hasattr(module, alias.name)
                    submodule = f"{node.module}.{alias.name}"
                    assert there or importlib.util.find_spec(submodule), submodule
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


def test_every_field_is_documented(capsys):
    import launch

    assert {name.rpartition(".")[0] for name in SCHEMA} == set(SECTIONS)
    assert launch.main(["fields", "--markdown"]) == 0
    renew = "python launch.py fields --markdown > docs/configuration.md"
    printed = capsys.readouterr().out
    assert all(f"| `{name}` |" in printed for name in SCHEMA)
    assert (ROOT / "docs/configuration.md").read_text() == printed, f"renew it: {renew}"


def test_fields_as_a_page_are_the_defaults(capsys):
    import launch

    assert launch.main(["fields", "--markdown", "--config=resnet50"]) == 1
    assert "--markdown shows the defaults" in capsys.readouterr().err
    assert launch.main(["fields", "--markdown", "label_smoothing"]) == 0
    printed = capsys.readouterr().out
    assert "| `loss.label_smoothing` | `0.1` | number, between 0 and 1 |" in printed
    assert "batch_size" not in printed


def test_every_recipe_verb_and_flag_is_documented():
    recipes = links(ROOT / "docs/recipes.md")
    for config in (ROOT / "configs").glob("*.py"):
        assert f"../configs/{config.name}" in recipes, config
    table = (ROOT / "docs/command-line.md").read_text()
    for verb in VERBS:
        assert f"\n| `{verb}`" in table, verb
    text = "\n".join(page.read_text() for page in PAGES)
    lacking = {flag for flag in flags() if not re.search(rf"{flag}\b", text)}
    assert lacking == {"-h"}


def test_pages_that_the_code_names_exist():
    named = {}
    for file in tracked():
        if file.endswith((".py", ".toml", ".yml")) and (ROOT / file).is_file():
            for page in re.findall(r"docs/[\w-]+\.md", (ROOT / file).read_text()):
                named.setdefault(page, file)
    assert "docs/step-study.md" in named
    assert not {page: file for page, file in named.items() if not (ROOT / page).is_file()}


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1].startswith(f"{__version__} - ")
