"""The messages on the page of what is refused are those in the code."""

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "reference" / "refused.md"
ROWS = [line for line in PAGE.read_text("utf-8").splitlines() if re.search(r"\| \d \|$", line)]
MESSAGES = [
    (first or second).strip()
    for row in ROWS
    for first, second in re.findall(r"``(.+?)``|`([^`]+)`", row.split(" | ")[1])
]


@cache
def templates() -> list[str]:
    """Every string in the code, with ``…`` for what is put in."""
    texts = []
    for package in ("pipeline", "stages", "tauflow", "artifacts"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


def test_there_are_messages() -> None:
    assert len(MESSAGES) >= len(ROWS) > 40


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_in_the_code(message: str) -> None:
    """If the page spells out a text that the code inserts, the rest must match."""
    pattern = re.compile(".+".join(re.escape(part) for part in message.removeprefix("…: ").split("…")))
    together = "\n".join(templates())  # no pattern reaches beyond a line, and one search is fast
    assert pattern.search(together) or any(_spelt_out(template, message) for template in templates()), message


# Packages all of whose refusals are on the page.
COMPLETE = (
    "config",
    "tasks",
    "images",
    "sources",
    "preparation",
    "models",
    "foreign",
    "training",
    "paradigms",
    "editing",
)


def refusals() -> list[tuple[str, str]]:
    """Every message that the code of these packages raises itself, with its file."""
    messages = []
    for path in (path for package in COMPLETE for path in sorted((ROOT / "pipeline" / package).rglob("*.py"))):
        name = path.relative_to(ROOT / "pipeline").as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            named = getattr(called, "id", getattr(called, "attr", None))
            if isinstance(node, ast.Call) and node.args and named in ("UserError", "ValueError", "_refusal"):
                text = _template(node.args[-1])
                if text.strip("…: "):
                    messages.append((name, text))
    return messages


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize(("file", "template"), refusals())
def test_a_refusal_is_on_the_page(file: str, template: str) -> None:
    """The page may leave out a part of a message, but not most of its words, or spell out what the code puts in."""
    words = len(template.replace("…", ""))
    whole = re.compile(".*".join(map(re.escape, template.removeprefix("…: ").split("…"))))
    for message in MESSAGES:
        pattern = re.compile(".+".join(map(re.escape, message.removeprefix("…: ").split("…"))))
        quoted = pattern.search(template) and len(message.replace("…", "")) > words / 2
        if quoted or whole.fullmatch(message.removeprefix("…: ")):
            return
    raise AssertionError(f"{file}: add a row for {template!r} to {PAGE.name}")


def _spelt_out(template: str, message: str) -> bool:
    """Return whether a message is a template with its placeholders filled in."""
    parts = template.removeprefix("…: ").split("…")
    long_enough = sum(map(len, parts)) > 20  # not a template of little but what is put in
    return long_enough and re.fullmatch(".+".join(map(re.escape, parts)), message.removeprefix("…: ")) is not None
