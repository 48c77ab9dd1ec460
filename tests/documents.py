"""The pages of the project, cut into what the tests look at: blocks, commands, words in code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, "" where none is given, and its text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """In their order."""
    return [Block(*found) for found in _FENCE.findall(page.read_text())]


def command_lines(block: Block) -> Iterator[str]:
    """The lines of a bash block, joined where they go on, without comments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line := re.sub(r"(^|\s+)#\s.*", "", line).strip():
            yield line


def words_in_code(page: Path) -> list[str]:
    """What stands between backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    """The targets of links and pictures."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        while anchor in found:
            anchor += "-1"
        found.add(anchor)
    return found


def own_config(folder: Path) -> Path:
    """Writes the config file that docs/recipes.md shows into a folder."""
    (text,) = (b.text for b in blocks(ROOT / "docs/recipes.md") if "def get_config" in b.text)
    file = folder / "my_config.py"
    file.write_text(text)
    return file
