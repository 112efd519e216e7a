"""The pages of docs/faults: messages, each with the smallest changes of a good folder that give it.

A change is written like a diff, in a block of the page:

    ```diff policy.csv
    +p, anyone, staff, Read, true, allow
                       ^ unknown action `Read` (write `read`)
    ```

Lines with `-` and ` ` stand in the file of `docs/faults/base` like that, once; lines with `+` take the
place of those with `-`. Without any of those, lines with `+` come after the last one. `@@ NAME` goes on
with another file; `@ removed`, `@ a folder` and `@ 99 bytes` are what they say. What cannot be seen
stands between `«` and `»`: `«U+FEFF»` a character, `«0xFF»` a byte, `«a×300»` a repetition,
`«no newline»` the end of a file without one; `«×300»` at its end repeats a line.

What is told stands below its line, with a caret at its place; after `!` where no line of the block has
that place.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import Fault
from proxy.policy.rules import MODEL

PAGES = Path(__file__).parents[2] / "docs/faults"
BASE = PAGES / "base"
SERVED = ", as the server reads it"

_BLOCK = re.compile(r"^```diff (.+)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
_UNSEEN = re.compile(
    r"«(?:U\+(?P<code>[0-9A-F]{4,6})|0x(?P<byte>[0-9A-F]{2})|(?P<what>[^«»])×(?P<times>[0-9]+)"
    r"|(?P<end>no newline)|×(?P<lines>[0-9]+))»"
)
_CARET = re.compile(r" *\^ |! ")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One block of a page."""

    page: str
    message: str
    """The message that it is an example of, with `…` for what varies."""
    title: str
    """What stands after the block's `diff`: the file, and who tells."""
    text: str

    @property
    def file(self) -> str:
        return self.title.removesuffix(SERVED)

    @property
    def served(self) -> bool:
        """Whether it is the server that tells it, since it opens what the files refer to."""
        return self.title.endswith(SERVED)

    def lines(self) -> list[tuple[str, str]]:
        """The block's lines, each with its file, without what is told."""
        file, found = self.file, []
        for line in self.text.splitlines():
            if line.startswith("@@ "):
                file = line[3:]
            if not _CARET.match(line):
                found.append((file, line))
        return found


def examples(page: str, message: str, text: str) -> Iterator[Example]:
    """The examples in one section of a page."""
    for title, block in _BLOCK.findall(text):
        yield Example(page=page, message=message, title=title, text=block)


def lay_out(folder: Path) -> None:
    """The good folder."""
    shutil.copytree(BASE, folder)
    (folder / "model.conf").write_text(MODEL, "utf-8")


def apply(example: Example, folder: Path) -> Mapping[tuple[str, int], int]:
    """Change the good folder as the example says; gives (file, its line) -> the example's line."""
    places: dict[tuple[str, int], int] = {}
    lines = example.lines()
    for file in dict.fromkeys(file for file, _ in lines):
        path = folder / file
        own = [(at, line) for at, (name, line) in enumerate(lines) if name == file]
        if done := next((line[2:] for _, line in own if line.startswith("@ ")), None):
            _replace(path, done)
            continue
        content = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        shown = [(at, line) for at, line in own if not line.startswith("@@")]
        old = [_bytes(line[1:]) for _, line in shown if line[0] in "- "]
        start = _find(content, old) if old else len(content)
        new: list[bytes] = []
        for at, line in shown:
            if line[0] != "-":
                repeated = _UNSEEN.search(line)
                times = int(repeated["lines"] or 1) if repeated else 1
                for _ in range(times):
                    new.append(_bytes(line[1:]))
                    places[file, start + len(new)] = at
        data = b"".join(
            line + b"\n" for line in (*content[:start], *new, *content[start + len(old) :])
        )
        path.write_bytes(data.replace(b"\0no newline\0\n", b""))
    return places


def _replace(path: Path, what: str) -> None:
    path.unlink(missing_ok=True)
    if what == "a folder":
        path.mkdir()
    elif what.endswith(" bytes"):
        with path.open("wb") as file:
            file.truncate(int(what.removesuffix(" bytes")))
    else:
        assert what == "removed", what


def _find(content: list[bytes], old: list[bytes]) -> int:
    found = [at for at in range(len(content)) if content[at : at + len(old)] == old]
    assert len(found) == 1, f"{old} stands in the file {len(found)} times"
    return found[0]


def _bytes(line: str) -> bytes:
    """A line of an example as it stands in the file."""
    parts, at = [], 0
    for unseen in _UNSEEN.finditer(line):
        parts += [line[at : unseen.start()].encode(), _written(unseen)]
        at = unseen.end()
    return b"".join([*parts, line[at:].encode()])


def _written(unseen: re.Match[str]) -> bytes:
    if unseen["code"]:
        return chr(int(unseen["code"], 16)).encode()
    if unseen["byte"]:
        return bytes.fromhex(unseen["byte"])
    if unseen["what"]:
        return unseen["what"].encode() * int(unseen["times"])
    return b"\0no newline\0" if unseen["end"] else b""


def told(example: Example, places: Mapping[tuple[str, int], int], faults: list[Fault]) -> str:
    """The block as it must be written where these faults are told."""
    below: dict[int, list[str]] = {}
    beside: list[str] = []
    lines = example.lines()
    for fault in faults:
        words = fault.message + (f" ({fault.hint})" if fault.hint else "")
        at = places.get((fault.file, fault.line)) if fault.column else None
        if at is None:
            place = f"{fault.file}:{fault.line}:{fault.column}: " if fault.line else ""
            place = place or (f"{fault.file}: " if fault.file != example.file else "")
            beside.append(f"! {place}{words}")
        else:
            below.setdefault(at, []).append(f"{_before(lines[at][1], fault.column)}^ {words}")
    shown = []
    for at, (_, line) in enumerate(lines):
        shown += [line, *dict.fromkeys(below.get(at, ()))]
    return "".join(f"{line}\n" for line in [*shown, *dict.fromkeys(beside)])


def _before(line: str, column: int) -> str:
    """Blanks up to where the column of the file's line stands in the example's line."""
    text, at = line[1:], 0
    for place, length in _characters(text):
        if at + length >= column:
            return " " * (place + 1)
        at += length
    return " " * (len(text) + 1)


def _characters(text: str) -> Iterator[tuple[int, int]]:
    """Where each character of an example's line stands, and how many it stands for."""
    at = 0
    while at < len(text):
        unseen = _UNSEEN.match(text, at)
        if unseen is None:
            yield at, 1
            at += 1
        else:
            yield at, len(_bytes(unseen[0]).decode("utf-8", "replace"))
            at = unseen.end()
