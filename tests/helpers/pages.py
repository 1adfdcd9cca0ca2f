"""The code blocks of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGES = [
    TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")), *sorted((TOP / "experiments").rglob("README.md")),
]  # fmt: skip

_FENCED = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n)+", re.MULTILINE)
_INLINE = re.compile(r"`(python -m nst\.\w+ [^`]+)`")
#: Words that stand for something of the reader's.
_PLACEHOLDER = re.compile(r"…|\bFOLDER\b(?!/)|\bFILE\b|\bDIR\b|\bSIZE\b|\bPART\b|\bPARTITION\b|OVERRIDES|PICTURE")


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page, by its path from the top of the project."""

    page: str
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in some languages, or in all, in the order of the pages."""
    return [
        Block(page.relative_to(TOP).as_posix(), language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for page in PAGES
        for indent, language, text in _FENCED.findall(page.read_text(encoding="utf-8"))
        if language in languages or not languages
    ]


def commands() -> list[tuple[str, str]]:
    """Return every command of the pages, with its page: of shell blocks, of indented blocks and within the text."""
    found = [(block.page, line) for block in blocks("sh", "") for line in _lines(block.text)]
    for page in PAGES:
        text = _FENCED.sub("", page.read_text(encoding="utf-8"))
        name = page.relative_to(TOP).as_posix()
        for block in _INDENTED.findall(text):
            found += [(name, line) for line in _lines(block) if line.startswith("python -m")]
        found += [(name, line) for line in _INLINE.findall(text) if not _PLACEHOLDER.search(line)]
    return list(dict.fromkeys(found))


def _lines(block: str) -> Iterator[str]:
    """Yield the commands of a block, without comments, with continued lines joined."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield shlex.join(words)
