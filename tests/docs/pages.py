"""The pages of the documentation and the code in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("[!_]*/*.md")])


@dataclass(frozen=True)
class Block:
    """A fenced piece of code of a page; ``file``: what the line above it calls it, if it is to be a file."""

    page: Path
    line: int
    file: str | None
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^(?:`(?P<file>[\w./]+)`:\n\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", text, re.M | re.S)
    return [
        Block(page, text[: fence.start("code")].count("\n") + 1, fence["file"], fence["language"], fence["code"])
        for fence in fences
        if fence["language"] in languages
    ]


@dataclass(frozen=True)
class Command:
    """A command that a page shows, without its comment; ``whole``: on a line of its own, and not in a sentence."""

    page: Path
    line: int
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}"


def commands(program: str) -> list[Command]:
    """Every call of a program that stands on a line of its own, or in backticks, on any page."""
    lines = []
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            for text, whole in ((line.strip(), True), *((text, False) for text in re.findall(r"`([^`]+)`", line))):
                for part in re.split(r" && |; | \| ", text.partition(" # ")[0]):
                    if part.startswith(f"{program} "):
                        lines.append(Command(page, number, tuple(shlex.split(part)[1:]), whole))
    return lines
