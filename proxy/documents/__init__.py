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

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from proxy.documents.tree import MOST_BYTES, Place, Reader, is_utf16
from proxy.documents.typed import KEY, Converter, Key, nearest
from proxy.errors import Fault, Faulty

__all__ = ["MOST_BYTES", "Document", "is_utf16", "load", "nearest", "read_file"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Document(Generic[T]):
    """A file's typed value, and where in the file each of its members stands."""

    value: T
    file: str
    places: Mapping[tuple[Key, ...], Place] = field(repr=False)
    """Of values, by path; a member's key stands under its path with one more part, `…`."""

    def place(self, *path: Key) -> Place:
        """Line and column of the value at `path`, else of the nearest that holds it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (0, 0))

    def fault(self, message: str, *path: Key, hint: str = "", key: bool = False) -> Fault:
        """A fault at the value at `path`, or at the member's `key`."""
        line, column = self.place(*path, KEY) if key else self.place(*path)
        return Fault(file=self.file, line=line, column=column, message=message, hint=hint)


def load(text: bytes, type_: type[T], *, file: str) -> Document[T]:
    """The value of `type_` that `text` writes; raises Faulty with everything that is wrong with it.

    `file` is the name under which faults speak of it.
    """
    reader = Reader(file)
    root = reader.read(text)
    if root is None:
        raise Faulty(reader.faults)
    converter = Converter(file)
    value = converter.convert(root, type_, ())
    faults = {*reader.faults, *converter.faults}
    if faults:
        raise Faulty(faults)
    return Document(value=value, file=file, places=converter.places)


def read_file(path: Path, *, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; raises OSError with a `strerror`."""
    if not path.is_file():  # a pipe would wait for ever
        raise OSError(None, "not a file" if path.exists() else "no such file")
    if path.stat().st_size > most:
        raise OSError(None, f"larger than {most} bytes")
    return path.read_bytes()
