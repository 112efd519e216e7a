"""A tree -> a typed value: member by member, so that one wrong value does not hide the next."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from proxy.documents.tree import Node, Place, Refused, Scalar, Sequence, Table
from proxy.errors import Fault

Key = str | int
"""A member's name or an item's number."""
KEY: Final = "…"
"""The last part of the path under which the place of a member's key is noted."""

_NAMES: Final[Mapping[object, str]] = {
    str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`",
    type(None): "nothing", list: "a list", dict: "a mapping",
}  # fmt: skip

_FORMS: Final[Mapping[object, str]] = {
    str: '"…"', int: "12", float: "2.5", bool: "true", list: "[…]", tuple: "[…]", dict: "{…}",
}  # fmt: skip

_MOST_NAMES: Final = 12


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known name nearest to `name`, else the first ones that there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    more = ", …" if len(names) > _MOST_NAMES else ""
    return f"known: {_listed(names[:_MOST_NAMES])}{more}" if names else "there is none yet"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class _Wrong:
    """Stands for a value that could not be made; its fault is noted."""


WRONG: Final = _Wrong()


@cache
def _union(type_: object) -> tuple[object, ...]:
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


@cache
def _bare(type_: object) -> tuple[Any, tuple[object, ...]]:
    """A type without its `Annotated`, and the annotations."""
    if get_origin(type_) is Annotated:
        bare, *notes = get_args(type_)
        return bare, tuple(notes)
    return type_, ()


@cache
def _kinds(type_: object) -> set[object]:
    """The bare types of which `type_` allows any."""
    return {get_origin(bare) or bare for bare in (_bare(option)[0] for option in _union(type_))}


def _is_struct(type_: object) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


@cache
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


@cache
def _form(type_: object) -> str:
    """How a value of `type_` is written: by its own example, by the first of its choices, or by its kind."""
    bare, notes = _bare(type_)
    for note in notes:
        if isinstance(note, msgspec.Meta) and note.examples:
            return str(note.examples[0])
    option = next(each for each in _union(bare) if each is not type(None))
    if option != bare:  # one of several
        return _form(option)
    if choices := _choices(bare):
        return next(iter(choices))
    origin = get_origin(bare) or bare
    return _FORMS.get(dict if _is_struct(origin) else origin, "…")


def _kind(node: Node) -> type:
    if isinstance(node, Scalar):
        return type(node.value)
    return list if isinstance(node, Sequence) else dict


@cache
def _fields(type_: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """A struct's members by the names that a file gives them."""
    return {field.encode_name: field for field in msgspec.structs.fields(type_)}


class Converter:
    """A tree -> values of annotated types, noting each fault and each place on the way."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.faults: list[Fault] = []
        self.places: dict[tuple[Key, ...], Place] = {}

    def convert(self, node: Node, type_: Any, path: tuple[Key, ...]) -> Any:
        """The value of `type_` that `node` writes, or `WRONG`."""
        self.places[path] = node.place
        if isinstance(node, Refused):
            return WRONG
        bare, notes = _bare(type_)
        options = _union(bare)
        if len(options) > 1:
            if isinstance(node, Scalar) and node.value is None and type(None) in options:
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

    def _choose(self, node: Node, options: tuple[object, ...]) -> list[object]:
        present = [option for option in options if option is not type(None)]
        kinds: tuple[object, ...]
        if isinstance(node, Sequence):
            kinds = (list, tuple)
        elif isinstance(node, Table):
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

    def _wrong(self, node: Node, message: str, hint: str = "", *, at: Place | None = None) -> Any:
        line, column = at or node.place
        self.faults.append(
            Fault(file=self._file, line=line, column=column, message=message, hint=hint)
        )
        return WRONG

    def _unexpected(self, node: Node, type_: object) -> Any:
        kind = _kind(node)
        hint = f"write it as `{_form(type_)}`"
        if kind in (int, float, bool) and str in _kinds(type_):
            hint = "put it in quotes"
        return self._wrong(node, f"expected {_described(type_)}, found {_NAMES[kind]}", hint)

    def _members(
        self, node: Table, path: tuple[Key, ...]
    ) -> Iterator[tuple[str, Place, Node, tuple[Key, ...]]]:
        for name, (at, member) in node.members.items():
            below = (*path, name)
            self.places[*below, KEY] = at
            yield name, at, member, below

    def _struct(self, node: Node, type_: type[msgspec.Struct], path: tuple[Key, ...]) -> Any:
        if not isinstance(node, Table):
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
            self._wrong(
                node, f"missing key `{name}`", f"such as `{name}: {_form(fields[name].type)}`"
            )
        if missing or any(value is WRONG for value in values.values()):
            return WRONG
        try:
            return type_(**values)
        except ValueError as exc:
            return self._wrong(node, str(exc))

    def _dict(
        self, node: Node, type_: Any, notes: tuple[object, ...], path: tuple[Key, ...]
    ) -> Any:
        if not isinstance(node, Table):
            return self._unexpected(node, type_)
        _, inner = get_args(type_) or (str, Any)
        made = {
            name: self.convert(member, inner, below)
            for name, _, member, below in self._members(node, path)
        }
        if any(value is WRONG for value in made.values()):
            return WRONG
        return self._counted(node, made, notes)

    def _list(
        self, node: Node, type_: Any, notes: tuple[object, ...], path: tuple[Key, ...]
    ) -> Any:
        if not isinstance(node, Sequence):
            return self._unexpected(node, type_)
        inner = get_args(type_)[0]
        made = [
            self.convert(item, inner, (*path, number)) for number, item in enumerate(node.items)
        ]
        if any(value is WRONG for value in made):
            return WRONG
        return self._counted(node, (get_origin(type_) or type_)(made), notes)

    def _counted(self, node: Node, made: Any, notes: tuple[object, ...]) -> Any:
        for note in notes:
            if isinstance(note, msgspec.Meta):
                if note.min_length is not None and len(made) < note.min_length:
                    message = f"needs at least {note.min_length}, has {len(made)}"
                    return self._wrong(node, message, "write what is missing")
                if note.max_length is not None and len(made) > note.max_length:
                    message = f"may have at most {note.max_length}, has {len(made)}"
                    return self._wrong(node, message, "take out what is too many")
        return made

    def _leaf(self, node: Node, type_: Any, notes: tuple[object, ...]) -> Any:
        if not isinstance(node, Scalar):
            return self._unexpected(node, type_)
        choices = _choices(type_)
        if choices is not None:
            value = choices.get(node.value) if isinstance(node.value, str) else None
            if value is None:
                close = difflib.get_close_matches(str(node.value), choices, n=1)
                hint = f"did you mean `{close[0]}`?" if close else "write one of them"
                return self._wrong(node, f"expected one of {_listed(choices)}", hint)
            return value
        kinds = _kinds(type_)
        if kinds <= _NAMES.keys():
            given = type(node.value)
            if given not in kinds and not (given is int and float in kinds):
                return self._unexpected(node, type_)
        for note in notes:
            if wrong := _outside(node.value, note):
                return self._wrong(node, *wrong)
        try:
            return msgspec.convert(node.value, Annotated[(type_, *notes)] if notes else type_)
        except msgspec.ValidationError:
            return self._unexpected(node, type_)


def _outside(value: object, note: object) -> tuple[str, str] | None:
    """Why a value is not within the bounds of a `Meta`, and what would be; None where it is."""
    if not isinstance(note, msgspec.Meta):
        return None
    if isinstance(value, str):
        if len(value) < (note.min_length or 0):
            return "the text is empty", "write something between the quotes, or leave the key out"
        if note.max_length is not None and len(value) > note.max_length:
            return f"the text is longer than {note.max_length} characters", "write a shorter one"
    elif isinstance(value, int | float):
        if note.ge is not None and value < note.ge:
            return f"the number is less than {note.ge}", f"write {note.ge} or more"
        if note.le is not None and value > note.le:
            return f"the number is greater than {note.le}", f"write {note.le} or less"
    return None


@cache
def _choices(type_: Any) -> dict[str, Any] | None:
    """The texts that a Literal or an Enum allows, with what they mean; None for other types."""
    if get_origin(type_) is Literal:
        return {choice: choice for choice in get_args(type_)}
    if isinstance(type_, type) and issubclass(type_, Enum):
        return {member.value: member for member in type_}
    return None
