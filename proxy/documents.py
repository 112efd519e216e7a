"""YAML files that a person wrote -> typed values, with every fault at once and in its place.

The language is YAML 1.2 (core schema) without what makes files surprising:

    plain scalars     true | false; null | ~ | nothing at all; -12; 1.5; 2e-3. All else is text:
                      `no`, `on`, `010`, `12:30`, `2026-11-23`, `0x1F`, `1_000`, `.inf`
    quoted scalars    text, always
    refused           anchors, aliases, tags, merges, directives, several documents, duplicate
                      keys, keys that are not scalars, a byte order mark, control characters,
                      bytes that are not UTF-8

Types are frozen `msgspec.Struct`s. Each is converted member by member, so that one wrong value does
not hide the next; an unknown key names the nearest known one. A `__post_init__` that raises
ValueError becomes a fault at the struct's place. No message holds a value, since a value may be a
secret; keys and the allowed choices are named.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import msgspec
import yaml
from yaml.cyaml import (
    CSafeLoader,
)  # libyaml: sixteen times as fast; a fallback could disagree with it

from proxy.errors import Fault, Faulty

T = TypeVar("T")
Place = tuple[int, int]
"""Line and column, from 1."""
Key = str | int
"""A member's name or an item's number."""

MOST_BYTES: Final = 4 << 20
MOST_DEPTH: Final = 32

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)"
)
_FORBIDDEN_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?\Z")
_WORDS: Final[Mapping[str, bool | None]] = {
    "true": True, "false": False, "null": None, "~": None, "": None,
}  # fmt: skip

_NAMES: Final[Mapping[object, str]] = {
    str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`",
    type(None): "nothing", list: "a list", dict: "a mapping",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Document(Generic[T]):
    """A file's typed value, and where in the file each of its members stands."""

    value: T
    file: str
    places: Mapping[tuple[Key, ...], Place]
    """Of values, by path; a member's key stands under its path with one more part, `…`."""

    def place(self, *path: Key) -> Place:
        """Line and column of the value at `path`, else of the nearest that holds it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (0, 0))

    def fault(self, message: str, *path: Key, hint: str = "", key: bool = False) -> Fault:
        """A fault at the value at `path`, or at the member's `key`."""
        line, column = self.place(*path, _KEY) if key else self.place(*path)
        return Fault(file=self.file, line=line, column=column, message=message, hint=hint)


_KEY: Final = "…"


def load(text: bytes, type_: type[T], *, file: str) -> Document[T]:
    """The value of `type_` that `text` writes; raises Faulty with everything that is wrong with it.

    `file` is the name under which faults speak of it.
    """
    reader = _Reader(file)
    root = reader.read(text)
    if root is None:
        raise Faulty(reader.faults)
    converter = _Converter(file)
    value = converter.convert(root, type_, ())
    faults = {*reader.faults, *converter.faults}
    if faults:
        raise Faulty(faults)
    return Document(value=value, file=file, places=converter.places)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known name nearest to `name`, else all of a few, else nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {_listed(names)}" if 0 < len(names) <= 12 else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# ── text -> tree ──


@dataclass(frozen=True, slots=True)
class _Scalar:
    place: Place
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class _Sequence:
    place: Place
    items: list[_Node]


@dataclass(frozen=True, slots=True)
class _Mapping:
    place: Place
    members: dict[str, tuple[Place, _Node]]


@dataclass(frozen=True, slots=True)
class _Refused:
    """Something that the language does not have; its fault is noted already."""

    place: Place


_Node = _Scalar | _Sequence | _Mapping | _Refused


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

    def __init__(self, node: _Sequence | _Mapping) -> None:
        self.node = node
        self.key: tuple[str, Place] | None = None


class _Reader:
    """Events of libyaml -> a tree; iterative, so that no depth of nesting can exhaust the stack."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.faults: list[Fault] = []
        self._stack: list[_Frame] = []
        self._root: _Node | None = None

    def _fault(self, message: str, place: Place = (0, 0), hint: str = "") -> None:
        self.faults.append(
            Fault(file=self._file, line=place[0], column=place[1], message=message, hint=hint)
        )

    def read(self, raw: bytes) -> _Node | None:
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
            self._fault(f"not YAML: {problem[0].lower()}{problem[1:]}", place)
            return None
        except yaml.YAMLError:
            self._fault("not YAML")
            return None
        if self._root is None and not self.faults:
            self._fault("the file is empty")
        return self._root

    def _decoded(self, raw: bytes) -> str | None:
        if len(raw) > MOST_BYTES:
            self._fault(f"the file is larger than {MOST_BYTES >> 20} MiB")
            return None
        if raw.startswith(b"\xef\xbb\xbf"):
            self._fault("the file starts with a byte order mark", (1, 1), "save it as plain UTF-8")
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as exc:
            before = raw[: exc.start].decode()
            self._fault("the file is not UTF-8", _place_at(before, len(before)))
            return None
        forbidden = list(_FORBIDDEN.finditer(text))
        for found in forbidden[:10]:
            self._fault(f"control character U+{ord(found[0]):04X}", _place_at(text, found.start()))
        return None if forbidden else text

    def _take(self, event: yaml.Event) -> bool:
        """Take in one event; False to stop."""
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        match event:
            case yaml.DocumentStartEvent():
                if event.version or event.tags:
                    self._fault("directives are not allowed", place)
                if self._root is not None:
                    self._fault("more than one document in the file", place)
                    return False
            case yaml.AliasEvent():
                self._fault(
                    "aliases are not allowed", place, "text that starts with `*` needs quotes"
                )
                self._add(_Refused(place))
            case yaml.ScalarEvent():
                self._refuse_properties(event, place)
                if _FORBIDDEN_VALUE.search(event.value):
                    self._fault("control characters in a value", place)
                if not event.style:  # neither quoted nor a block
                    self._add(_Scalar(place, _resolved(event.value)), text=event.value, plain=True)
                else:
                    self._add(_Scalar(place, event.value), text=event.value)
            case yaml.CollectionStartEvent():
                self._refuse_properties(event, place)
                if len(self._stack) >= MOST_DEPTH:
                    self._fault(f"nested deeper than {MOST_DEPTH} levels", place)
                    return False
                sequence = isinstance(event, yaml.SequenceStartEvent)
                node = _Sequence(place, []) if sequence else _Mapping(place, {})
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

    def _add(self, node: _Node, *, text: str | None = None, plain: bool = False) -> None:
        """Put `node` where it belongs: the root, an item, a key or a member's value."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if isinstance(frame.node, _Sequence):
            frame.node.items.append(node)
        elif frame.key is None:
            if not text:
                self._fault("a key must be a name", node.place)
            elif plain and text == "<<":
                self._fault("merges are not allowed", node.place)
            frame.key = (text or "", node.place)
        else:
            (name, at), frame.key = frame.key, None
            if name in frame.node.members:
                line = frame.node.members[name][0][0]
                self._fault(f"duplicate key `{name}`", at, f"first in line {line}")
            else:
                frame.node.members[name] = (at, node)


def _place_at(text: str, index: int) -> Place:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


# ── tree -> typed value ──


class _Wrong:
    """Stands for a value that could not be made; its fault is noted."""


_WRONG: Final = _Wrong()


def _union(type_: object) -> tuple[object, ...]:
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


def _bare(type_: object) -> tuple[Any, tuple[object, ...]]:
    """A type without its `Annotated`, and the annotations."""
    if get_origin(type_) is Annotated:
        bare, *notes = get_args(type_)
        return bare, tuple(notes)
    return type_, ()


def _kinds(type_: object) -> set[object]:
    """The bare types of which `type_` allows any."""
    return {get_origin(bare) or bare for bare in (_bare(option)[0] for option in _union(type_))}


def _is_struct(type_: object) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _described(type_: object) -> str:
    """What a person would call a value of `type_`."""
    names = []
    for each in _union(type_):
        bare, _ = _bare(each)
        origin = get_origin(bare) or bare
        if origin in (tuple, list):
            names.append("a list")
        elif origin in (dict, Mapping) or _is_struct(origin):
            names.append("a mapping")
        elif each is not type(None):
            names.append(_NAMES.get(origin, "another value"))
    return " or ".join(dict.fromkeys(names))


def _kind(node: _Node) -> type:
    if isinstance(node, _Scalar):
        return type(node.value)
    return list if isinstance(node, _Sequence) else dict


@cache
def _fields(type_: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """A struct's members by the names that a file gives them."""
    return {field.encode_name: field for field in msgspec.structs.fields(type_)}


class _Converter:
    """A tree -> values of annotated types, noting each fault and each place on the way."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.faults: list[Fault] = []
        self.places: dict[tuple[Key, ...], Place] = {}

    def convert(self, node: _Node, type_: Any, path: tuple[Key, ...]) -> Any:
        """The value of `type_` that `node` writes, or `_WRONG`."""
        self.places[path] = node.place
        if isinstance(node, _Refused):
            return _WRONG
        bare, notes = _bare(type_)
        options = _union(bare)
        if len(options) > 1:
            if isinstance(node, _Scalar) and node.value is None and type(None) in options:
                return None
            chosen = self._choose(node, options)
            # One option left is as good as the type; msgspec tells scalars of several apart.
            bare = chosen[0] if len(chosen) == 1 else bare
            bare, more = _bare(bare)
            notes = (*notes, *more)
        origin = get_origin(bare) or bare
        if _is_struct(origin):
            return self._struct(node, origin, path)
        if origin in (dict, Mapping):
            return self._dict(node, bare, notes, path)
        if origin in (tuple, list):
            return self._list(node, bare, notes, path)
        return self._leaf(node, bare, notes)

    def _choose(self, node: _Node, options: tuple[object, ...]) -> list[object]:
        present = [option for option in options if option is not type(None)]
        kinds: tuple[object, ...]
        if isinstance(node, _Sequence):
            kinds = (list, tuple)
        elif isinstance(node, _Mapping):
            kinds = (dict, Mapping)
        else:
            return [o for o in present if _described(o) not in ("a list", "a mapping")] or present
        fitting = [
            option
            for option in present
            if (origin := get_origin(_bare(option)[0]) or _bare(option)[0]) in kinds
            or (dict in kinds and _is_struct(origin))
        ]
        return fitting[:1] or present

    def _wrong(self, node: _Node, message: str, hint: str = "", *, at: Place | None = None) -> Any:
        line, column = at or node.place
        self.faults.append(
            Fault(file=self._file, line=line, column=column, message=message, hint=hint)
        )
        return _WRONG

    def _unexpected(self, node: _Node, type_: object) -> Any:
        kind = _kind(node)
        hint = ""
        if kind in (int, float, bool) and str in _kinds(type_):
            hint = "put it in quotes"
        return self._wrong(node, f"expected {_described(type_)}, found {_NAMES[kind]}", hint)

    def _members(
        self, node: _Mapping, path: tuple[Key, ...]
    ) -> Iterator[tuple[str, Place, _Node, tuple[Key, ...]]]:
        for name, (at, member) in node.members.items():
            below = (*path, name)
            self.places[*below, _KEY] = at
            yield name, at, member, below

    def _struct(self, node: _Node, type_: type[msgspec.Struct], path: tuple[Key, ...]) -> Any:
        if not isinstance(node, _Mapping):
            return self._unexpected(node, type_)
        fields = _fields(type_)
        values: dict[str, Any] = {}
        for name, at, member, below in self._members(node, path):
            field = fields.get(name)
            if field is None:
                self._wrong(node, f"unknown key `{name}`", nearest(name, fields), at=at)
            else:
                values[field.name] = self.convert(member, field.type, below)
        missing = [n for n, f in fields.items() if f.required and n not in node.members]
        for name in missing:
            self._wrong(node, f"missing key `{name}`")
        if missing or any(value is _WRONG for value in values.values()):
            return _WRONG
        try:
            return type_(**values)
        except ValueError as exc:
            return self._wrong(node, str(exc))

    def _dict(
        self, node: _Node, type_: Any, notes: tuple[object, ...], path: tuple[Key, ...]
    ) -> Any:
        if not isinstance(node, _Mapping):
            return self._unexpected(node, type_)
        _, inner = get_args(type_) or (str, Any)
        made = {
            name: self.convert(member, inner, below)
            for name, _, member, below in self._members(node, path)
        }
        if any(value is _WRONG for value in made.values()):
            return _WRONG
        return self._counted(node, made, notes)

    def _list(
        self, node: _Node, type_: Any, notes: tuple[object, ...], path: tuple[Key, ...]
    ) -> Any:
        if not isinstance(node, _Sequence):
            return self._unexpected(node, type_)
        inner = get_args(type_)[0]
        made = [
            self.convert(item, inner, (*path, number)) for number, item in enumerate(node.items)
        ]
        if any(value is _WRONG for value in made):
            return _WRONG
        return self._counted(node, (get_origin(type_) or type_)(made), notes)

    def _counted(self, node: _Node, made: Any, notes: tuple[object, ...]) -> Any:
        for note in notes:
            if isinstance(note, msgspec.Meta):
                if note.min_length is not None and len(made) < note.min_length:
                    return self._wrong(node, f"needs at least {note.min_length}")
                if note.max_length is not None and len(made) > note.max_length:
                    return self._wrong(node, f"may have at most {note.max_length}")
        return made

    def _leaf(self, node: _Node, type_: Any, notes: tuple[object, ...]) -> Any:
        if not isinstance(node, _Scalar):
            return self._unexpected(node, type_)
        choices = _choices(type_)
        if choices is not None:
            value = choices.get(node.value) if isinstance(node.value, str) else None
            if value is None:
                return self._wrong(node, f"expected one of {_listed(choices)}")
            return value
        kinds = _kinds(type_)
        if kinds <= _NAMES.keys():
            given = type(node.value)
            if given not in kinds and not (given is int and float in kinds):
                return self._unexpected(node, type_)
        try:
            whole = Annotated[(type_, *notes)] if notes else type_
            return msgspec.convert(node.value, whole)
        except msgspec.ValidationError as exc:
            message = str(exc)
            return self._wrong(node, message[0].lower() + message[1:])


def _choices(type_: Any) -> dict[str, Any] | None:
    """The texts that a Literal or an Enum allows, with what they mean; None for other types."""
    if get_origin(type_) is Literal:
        return {choice: choice for choice in get_args(type_)}
    if isinstance(type_, type) and issubclass(type_, Enum):
        return {member.value: member for member in type_}
    return None
