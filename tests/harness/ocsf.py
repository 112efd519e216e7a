"""Holds records against a schema of OCSF: a table of ours, or the one that schema.ocsf.io exports.

A line of the table says of one attribute of a class or an object, `metadata.uid`, in this order: its type or
`{object}`, with `[]` where there are several; `!` where it is required; `@` with the profile that it is of; `~`
with the attribute that says it in words; and the values that it may have, with these words. `product: name|uid`
says that at least one of these must be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Attribute:
    type: str
    object: str = ""
    many: bool = False
    required: bool = False
    profiles: frozenset[str] = frozenset()
    sibling: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """Each with its caption."""


@dataclass(kw_only=True, repr=False)
class Schema:
    """Attributes by class or object; of which at least one must be there; classes by `class_uid`."""

    attributes: dict[str, dict[str, Attribute]] = field(default_factory=dict)
    some: dict[str, frozenset[str]] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)

    @classmethod
    def exported(cls, path: Path) -> Self:
        """The official schema, as `schema.ocsf.io/1.8.0/export/v2/schema` gives it (a package of `make peers` has it)."""
        said = json.loads(path.read_bytes())
        found = cls()
        for name, each in (*said["objects"].items(), *said["classes"].items()):
            found.attributes[name] = {
                key: Attribute(
                    type="" if one["type"] == "object_t" else one["type"],
                    object=one.get("object_type", ""),
                    many=one.get("is_array", False),
                    required=one.get("requirement") == "required",
                    profiles=frozenset(one.get("profiles") or ()),
                    sibling=one.get("sibling") or "",
                    values=tuple(sorted((k, v["caption"]) for k, v in one.get("enum", {}).items())),
                )
                for key, one in each["attributes"].items()
            }
            if some := (each.get("constraints") or {}).get("at_least_one"):
                found.some[name] = frozenset(some)
        found.classes = {each["uid"]: name for name, each in said["classes"].items()}
        return found

    @classmethod
    def table(cls, path: Path) -> Self:
        found = cls()
        for line in path.read_text("utf-8").splitlines():
            if some := re.fullmatch(r"(\w+): ([\w|]+)", line):
                found.some[some[1]] = frozenset(some[2].split("|"))
            elif one := re.fullmatch(
                r"(\w+)\.(\w+) (?:\{(\w+)\}|(\w+))(\[\])?(!)?(?: @(\S+))?(?: ~(\w+))?"
                r"(?: (.+))?",
                line,
            ):
                found.attributes.setdefault(one[1], {})[one[2]] = Attribute(
                    type=one[4] or "",
                    object=one[3] or "",
                    many=bool(one[5]),
                    required=bool(one[6]),
                    profiles=frozenset((one[7] or "").split("|")) - {""},
                    sibling=one[8] or "",
                    values=tuple(
                        tuple(each.split("=")) for each in (one[9] or "").split("|") if each
                    ),
                )
                if one[2] == "class_uid":
                    found.classes[int(one[9].partition("=")[0])] = one[1]
            else:
                assert not line or line.startswith("#"), line
        return found

    def lines(self, used: dict[str, set[str]]) -> Iterator[str]:
        """The table's lines of what is used, and of all else that is required beside it."""
        for owner, names in used.items():
            if owner in self.some:
                yield f"{owner}: {'|'.join(sorted(self.some[owner]))}"
            for name, one in sorted(self.attributes[owner].items()):
                if name not in names and not one.required:
                    continue
                kind = f"{{{one.object}}}" if one.object else one.type
                yield " ".join(
                    filter(None, [
                        f"{owner}.{name}",
                        kind + "[]" * one.many + "!" * one.required,
                        f"@{'|'.join(sorted(one.profiles))}" if one.profiles else "",
                        f"~{one.sibling}" if one.sibling else "",
                        "|".join("=".join(each) for each in one.values),
                    ])
                )  # fmt: skip

    def faults(self, record: dict[str, Any]) -> list[str]:
        """What is wrong with a record; none where it is one of the schema."""
        name = self.classes.get(record.get("class_uid", 0))
        if name is None:
            return ["class_uid is of no class"]
        profiles = frozenset(record.get("metadata", {}).get("profiles", ()))
        return [*self._object(name, record, "", profiles)]

    def _object(self, kind: str, value: object, at: str, profiles: frozenset[str]) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at} is no object"
            return
        if kind == "object":  # `unmapped`: whatever it may be
            return
        known = self.attributes[kind]
        for name, one in known.items():
            applies = not one.profiles or one.profiles & profiles
            if one.required and applies and name not in value:
                yield f"{at}.{name} is missing"
        if kind in self.some and not self.some[kind] & value.keys():
            yield f"{at} has none of {sorted(self.some[kind])}"
        for name, each in value.items():
            one = known.get(name)
            if one is None or (one.profiles and not one.profiles & profiles):
                yield f"{at}.{name} is not of the schema"
            elif one.many != isinstance(each, list):
                yield f"{at}.{name} is a list, or is none"
            else:
                for single in each if isinstance(each, list) else [each]:
                    yield from self._value(one, single, f"{at}.{name}", profiles)
                said = value.get(one.sibling, "")
                if one.sibling and str(each) != "99" and said != dict(one.values).get(str(each)):
                    yield f"{at}.{one.sibling} is not the word for {each}: {said!r}"

    def _value(
        self, one: Attribute, value: object, at: str, profiles: frozenset[str]
    ) -> Iterator[str]:
        if one.object:
            yield from self._object(one.object, value, at, profiles)
        elif not TYPES[one.type](value):
            yield f"{at} is no {one.type}: {value!r}"
        elif one.values and str(value) not in dict(one.values):
            yield f"{at} has a value that the schema does not list: {value!r}"


def _integer(most: int):
    return lambda value: type(value) is int and -most - 1 <= value <= most


def _text(pattern: str = ".*", most: int = 1 << 20):
    shape = re.compile(pattern, re.DOTALL)
    return lambda value: (
        isinstance(value, str) and len(value) <= most and shape.fullmatch(value) is not None
    )


TYPES = {
    "boolean_t": lambda value: isinstance(value, bool),
    "integer_t": _integer(2**31 - 1),
    "long_t": _integer(2**63 - 1),
    "timestamp_t": _integer(2**63 - 1),
    "string_t": _text(),
    "username_t": _text(),
    "url_t": _text(),
    "ip_t": _text(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%.+)?", 40),
    "file_hash_t": _text(r"[0-9a-f]{64}"),
}
