"""The text of a YAML file -> a tree of values, each with its place."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.cyaml import (
    CSafeLoader,
)  # libyaml: sixteen times as fast; a fallback could disagree with it

from proxy.errors import Fault

Place = tuple[int, int]
"""Line and column, from 1."""

MOST_BYTES: Final = 4 << 20
MOST_DEPTH: Final = 32
_SAMPLE: Final = 200
_TOO_DEEP: Final = f"nested deeper than {MOST_DEPTH} levels"
_FLATTER: Final = "write it flatter: nothing that is read here nests so deep"
_SEE_ABOVE: Final = "see the line above too: its indentation, quotes, brackets and `:`"

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)"
)
_FORBIDDEN_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?=[.eE])(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?\Z")
_WORDS: Final[Mapping[str, bool | None]] = {
    "true": True, "false": False, "null": None, "~": None, "": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; None where nothing is written."""

    place: Place
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list[Node]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping: name -> place of the name, value."""

    place: Place
    members: dict[str, tuple[Place, Node]]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that the language does not have; its fault is noted already."""

    place: Place


Node = Scalar | Sequence | Table | Refused


def _resolved(text: str) -> str | float | bool | None:
    """What a plain scalar means in the core schema; a number too large for its kind stays text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text) and math.isfinite(number := float(text)):
        return number
    return text


class _Frame:
    """A collection that is being read; in a mapping, the key that waits for its value."""

    __slots__ = ("key", "node")

    def __init__(self, node: Sequence | Table) -> None:
        self.node = node
        self.key: tuple[str, Place] | None = None


class Reader:
    """Events of libyaml -> a tree; iterative, so that no depth of nesting can exhaust the stack."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.faults: list[Fault] = []
        self._stack: list[_Frame] = []
        self._root: Node | None = None

    def _fault(self, message: str, place: Place = (0, 0), hint: str = "") -> None:
        self.faults.append(
            Fault(file=self._file, line=place[0], column=place[1], message=message, hint=hint)
        )

    def read(self, raw: bytes) -> Node | None:
        """The tree, or None where the text has none; `faults` then says why."""
        text = self._decoded(raw)
        if text is None:
            return None
        try:
            for event in yaml.parse(text, Loader=CSafeLoader):
                if not self._take(event):
                    return None
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            problem = exc.problem or "this is not YAML"
            if "nesting depth" in problem:  # libyaml has a limit too, and looks ahead
                self._fault(_TOO_DEEP, place, _FLATTER)
            else:
                tab = mark is not None and text[mark.index : mark.index + 1] == "\t"
                hint = "indent with blanks: YAML takes no tabs" if tab else _SEE_ABOVE
                self._fault(f"not YAML: {problem[0].lower()}{problem[1:]}", place, hint)
            return None
        except yaml.YAMLError:
            self._fault("not YAML", hint=_SEE_ABOVE)
            return None
        if self._root is None and not self.faults:
            self._fault("the file is empty", hint="it may be lost: bring it back")
        return self._root

    def _decoded(self, raw: bytes) -> str | None:
        if is_utf16(raw):
            self._fault("the file is UTF-16", hint="save it as UTF-8")
            return None
        if len(raw) > MOST_BYTES:
            hint = "take out what is not needed"
            self._fault(f"the file is larger than {MOST_BYTES >> 20} MiB", hint=hint)
            return None
        if raw.startswith(b"\xef\xbb\xbf"):
            self._fault("the file starts with a byte order mark", (1, 1), "save it as plain UTF-8")
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as exc:
            before = raw[: exc.start].decode()
            self._fault("the file is not UTF-8", _place_at(before, len(before)), "save it as UTF-8")
            return None
        forbidden = list(_FORBIDDEN.finditer(text))
        for found in forbidden[:10]:
            place = _place_at(text, found.start())
            self._fault(f"control character U+{ord(found[0]):04X}", place, "take it out")
        return None if forbidden else text

    def _take(self, event: yaml.Event) -> bool:
        """Take in one event; False to stop."""
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        match event:
            case yaml.DocumentStartEvent():
                if event.version or event.tags:
                    self._fault(
                        "directives are not allowed", place, "take out what begins with `%`"
                    )
                if self._root is not None:
                    hint = "take out the `---`, and what does not belong here"
                    self._fault("more than one document in the file", place, hint)
                    return False
            case yaml.AliasEvent():
                self._fault(
                    "aliases are not allowed", place, "text that starts with `*` needs quotes"
                )
                self._add(Refused(place))
            case yaml.ScalarEvent():
                self._refuse_properties(event, place)
                if _FORBIDDEN_VALUE.search(event.value):
                    self._fault("control characters in a value", place, "take them out")
                if not event.style:  # neither quoted nor a block
                    self._add(Scalar(place, _resolved(event.value)), text=event.value, plain=True)
                else:
                    self._add(Scalar(place, event.value), text=event.value)
            case yaml.CollectionStartEvent():
                self._refuse_properties(event, place)
                if len(self._stack) >= MOST_DEPTH:
                    self._fault(_TOO_DEEP, place, _FLATTER)
                    return False
                sequence = isinstance(event, yaml.SequenceStartEvent)
                node = Sequence(place, []) if sequence else Table(place, {})
                self._add(node)
                self._stack.append(_Frame(node))
            case yaml.CollectionEndEvent():
                self._stack.pop()
            case _:
                pass
        return True

    def _refuse_properties(self, event: yaml.NodeEvent, place: Place) -> None:
        if event.anchor is not None:
            self._fault("anchors are not allowed", place, "text that starts with `&` needs quotes")
        if getattr(event, "tag", None) is not None:
            self._fault("tags are not allowed", place, "text that starts with `!` needs quotes")

    def _add(self, node: Node, *, text: str | None = None, plain: bool = False) -> None:
        """Put `node` where it belongs: the root, an item, a key or a member's value."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.key is None:
            if not text:
                self._fault("a key must be a name", node.place, "write `name: value`")
            elif plain and text == "<<":
                self._fault("merges are not allowed", node.place, "write the keys out")
                text = ""
            frame.key = (text or "", node.place)
        else:
            (name, at), frame.key = frame.key, None
            if not name:
                pass  # its fault is told, and nothing more is to be said of it
            elif name in frame.node.members:
                line = frame.node.members[name][0][0]
                self._fault(f"duplicate key `{name}`", at, f"first in line {line}")
            else:
                frame.node.members[name] = (at, node)


def is_utf16(raw: bytes) -> bool:
    """Whether a file is UTF-16: by its mark, or since every other byte is NUL."""
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return True
    if len(raw) % 2:
        return False
    halves = raw[:_SAMPLE:2], raw[1:_SAMPLE:2]
    return any(
        one and all(one) and not any(other) for one, other in (halves, halves[::-1]) if other
    )


def _place_at(text: str, index: int) -> Place:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
