"""The cells of a policy line: text -> principals, report patterns, lists of fields, fixed words.

    principal  user:NAME | group:NAME | tool:NAME | role:NAME | anyone
    report     an id of the catalogue | prefix/* | set:NAME
    fields     item|item|…  |  *  |  * except item|item|…        item = a field's name, or @class
    NAME       as a token has it; in quotes where it would read as something else: 'O''Brien, Pat'

Whatever else is written raises `Wrong`, with a hint at what was probably meant.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from proxy.policy.lines import ANYONE
from proxy.report import Report

KINDS: Final = ("user", "group", "tool", "role")

_KIND: Final = f"(?:{'|'.join(KINDS)}):"
_PRINCIPAL = re.compile(rf"({_KIND})(?:'((?:[^']|'')+)'|(\S(?:.*\S)?))\Z")
_WORD = re.compile(r"[\w.-]+\Z")
_PLAIN = re.compile(rf"{_KIND}[A-Za-z0-9._@+-]+\Z")
"""Most principals: in such a name nothing can be mistaken."""
_SET = re.compile(r"set:\S(?:.*\S)?\Z")
_MISTAKEN = re.compile(rf"""['"*]|[ \t]\#|[ \t|](?:{_KIND}|set:|anyone\b)""")
"""What in a name means that its author meant something else: quotes, a comment, a list of names."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters without a shape of their own that Python takes for printable ones."""
_QUOTES: Final = "\"'`“”‘’ "
_EXCEPT = re.compile(r"\*[ \t]+except[ \t]+")
_MANY: Final = 2_000
"""With more names than this no nearest one is looked for: it would take too long."""

_FEW: Final = 12
"""Names that are listed where none is near."""


class Wrong(Exception):
    """What is wrong within one cell: each with its offset in the text, a message and a hint."""

    def __init__(self, *found: tuple[int, str, str]) -> None:
        self.found = found
        super().__init__(*found)


def nearest(word: str, known: Collection[str], *, otherwise: str = "") -> str:
    """A hint: the known name that `word` resembles, or what makes it another than it looks."""
    bare = word.strip(_QUOTES)
    if bare != word and bare in known:
        return f"write `{bare}` without quotes"
    if "#" in word:
        return "a comment stands on a line of its own"
    foreign = [character for character in word if not character.isascii()]
    if len(known) <= _MANY:
        plain = _folded(word)
        for name in known:
            if _folded(name) == plain:
                return f"write `{name}`"
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
        if close and not foreign:
            return f"did you mean `{close[0]}`?"
        if close:
            return f"did you mean `{close[0]}`? {_named(foreign[0])}"
    if foreign and len(word) <= 12:
        return _named(foreign[0])
    return otherwise


def _folded(word: str) -> str:
    """The word without what eyes overlook: case, width, odd blanks."""
    return "".join(unicodedata.normalize("NFKC", word).casefold().split())


def _named(character: str) -> str:
    """What a character that looks like another one really is."""
    name = unicodedata.name(character, "unnamed").lower()
    return f"`{character}` is U+{ord(character):04X}, {name}"


def word(text: str, table: Iterable[str], what: str) -> str:
    """A word of a fixed table, exactly as it is written there."""
    known = list(table)
    if text in known:
        return text
    options = ", ".join(f"`{name}`" for name in known)
    raise Wrong(
        (0, f"unknown {what} `{text}`", nearest(text, known, otherwise=f"one of {options}"))
    )


def principal(text: str) -> str:
    """A typed principal, its name without quotes."""
    if text == ANYONE or _PLAIN.match(text):
        return text
    matched = _PRINCIPAL.match(text)
    if matched is not None:
        kind, quoted, plain = matched.groups()
        name = _name(text, quoted.replace("''", "'") if quoted else plain, kind, bare=not quoted)
        return f"{kind}{name}"
    if text == "*":
        raise Wrong((0, f"`{text}` is not a principal: `*` stands for nobody", "write `anyone`"))
    kind, colon, name = text.partition(":")
    folded = _folded(kind)
    bare = text.strip(_QUOTES)
    if bare != text and (bare == ANYONE or _PRINCIPAL.match(bare)):
        hint = f"write `{bare}` without quotes"
    elif colon and folded in KINDS and name.strip():
        hint = f"write `{folded}:{name.strip()}`"
    elif colon and folded in KINDS:
        hint = f"a name follows: write `{folded}:…`"
    elif not colon and folded == ANYONE:
        hint = f"write `{ANYONE}`"
    else:
        hint = nearest(kind, KINDS if colon else [ANYONE], otherwise="")
        hint = hint or "write `user:…`, `group:…`, `tool:…`, `role:…` or `anyone`"
    raise Wrong((0, f"`{text}` is not a principal", hint))


def _name(text: str, name: str, kind: str, *, bare: bool) -> str:
    """A name that is what it looks like; another one would match nobody, and its deny be lost."""
    if not unicodedata.is_normalized("NFC", name):
        # Names are compared character by character, and tokens in another form are refused.
        composed = unicodedata.normalize("NFC", text)
        raise Wrong((0, f"`{text}` is not in Unicode's composed form", f"write `{composed}` (NFC)"))
    if unseen := _unseen(name):
        what = unicodedata.name(unseen, "unnamed").lower()
        at = text.index(unseen)
        raise Wrong(
            (at, f"`U+{ord(unseen):04X}` is not seen in a name", f"take it out: it is {what}")
        )
    mistaken = _MISTAKEN.search(name) if bare else None
    if mistaken is None:
        return name
    found = mistaken[0].strip()
    match found[0]:
        case "*":
            hint = "write `anyone`"
            raise Wrong((0, f"`{text}` is not a principal: `*` stands for nobody", hint))
        case "#":
            hint = "a comment stands on a line of its own"
        case '"':
            plain = name.replace('"', "")
            hint = f"write `{kind}{plain}`: there are no double quotes here"
        case "'":
            doubled = name.replace("''", "'").replace("'", "''")
            hint = f"write `{kind}'{doubled}'`"
        case _:
            hint = "one name in a line; give a role to several by a `g` line each"
    at = len(kind) + mistaken.end() - len(mistaken[0].lstrip())
    raise Wrong((at, f"`{found}` does not stand in a name, but in quotes", hint))


def _unseen(name: str) -> str | None:
    """The first character that is not seen, if any."""
    if name.isprintable() and not _UNSEEN.search(name):
        return None
    return next(c for c in name if not c.isprintable() or _UNSEEN.match(c))


def member(text: str) -> str:
    """Who can be given a role: any principal but `anyone`."""
    found = principal(text)
    if found == ANYONE:
        raise Wrong(
            (0, "`anyone` is not a member of anything", "give the rules of the role to `anyone`")
        )
    return found


def role(text: str) -> str:
    """What `g` gives: a role."""
    if not text.startswith("role:"):
        meant = f"role:{text}" if _WORD.match(text) else "role:…"
        hint = f"the second name of a `g` line is a role: write `{meant}`"
        raise Wrong((0, f"`{text}` is not a role", hint))
    return principal(text)


def report_set(text: str) -> str:
    """What `g2` puts a report into: a set."""
    if not _SET.match(text) or _MISTAKEN.search(text, 4) or _unseen(text):
        raise Wrong((0, f"`{text}` is not a set of reports", "write `set:` and a name"))
    return text


def report_pattern(text: str, reports: Mapping[str, Report], sets: Collection[str]) -> str:
    """A report's id, an anchored prefix over at least one report, or a set that `g2` fills."""
    if text in reports:
        return text
    if text.startswith("set:"):
        if text in sets:
            return text
        hint = nearest(text, sets, otherwise=f"no line puts a report into it: `g2, …, {text}`")
        raise Wrong((0, f"unknown set `{text}`", hint))
    if text.endswith("/*") and "*" not in text[:-1] and len(text) > 2:
        prefix = text[:-1]
        if any(name.startswith(prefix) and name != prefix for name in reports):
            return text
        prefixes = {f"{name[:at]}/*" for name in reports for at, c in enumerate(name) if c == "/"}
        hint = nearest(text, prefixes, otherwise="see the ids in reports.yaml")
        raise Wrong((0, f"no report is under `{text}`", hint))
    if "*" in text:
        at = text.index("*")
        hint = "a prefix ends in `/*` and has no other `*`, such as `sales/*`"
        raise Wrong((at, f"`{text}` is not a report", hint))
    hint = nearest(text, reports, otherwise="see the ids in reports.yaml")
    raise Wrong((0, f"unknown report `{text}`", hint))


def fields(
    text: str, covered: Iterable[Report], classes: Collection[str]
) -> Mapping[str, frozenset[str]]:
    """For each covered report: the declared fields that the list names."""
    reports = list(covered)
    if text == "*":
        return {report.id: frozenset(report.fields) for report in reports}
    excepting = _EXCEPT.match(text)
    start = excepting.end() if excepting else 0
    if text.startswith("*") and not excepting:
        hint = "write `*`, or `* except` and what is left out: `* except @personal|name`"
        raise Wrong((0, f"`{text}` is not a list of fields", hint))
    names: set[str] = set()
    named_classes: set[str] = set()
    found: list[tuple[int, str, str]] = []
    for item, offset in _items(text, start):
        if wrong := _unknown(item, reports, classes):
            found.append((offset, *wrong))
        elif item.startswith("@"):
            named_classes.add(item[1:])
        else:
            names.add(item)
    if found:
        raise Wrong(*found)
    listed = {
        report.id: {n for n, f in report.fields.items() if n in names or f.class_ in named_classes}
        for report in reports
    }
    if excepting:
        return {
            report.id: frozenset(report.fields.keys() - listed[report.id]) for report in reports
        }
    return {report: frozenset(named) for report, named in listed.items()}


def _items(text: str, start: int) -> Iterable[tuple[str, int]]:
    """The items between `|`, trimmed, each with its offset."""
    at = start
    for part in text[start:].split("|"):
        yield part.strip(" \t"), at + len(part) - len(part.lstrip(" \t"))
        at += len(part) + 1


def _unknown(
    item: str, reports: Sequence[Report], classes: Collection[str]
) -> tuple[str, str] | None:
    """Why an item of a list of fields names nothing: a message and a hint."""
    if not item:
        return "a field is missing", "write a field on both sides of `|`"
    if item.startswith("@"):
        known = {*classes, *(f.class_ for report in reports for f in report.fields.values())}
        if item[1:] in known:
            return None
        return f"unknown class `{item}`", _one_of(item, sorted(f"@{name}" for name in known))
    if any(item in report.fields for report in reports):
        return None
    if item == "*":
        return "`*` stands alone or before `except`", "write `*` or `* except …`"
    names = list(dict.fromkeys(name for report in reports for name in report.fields))
    where = f"`{reports[0].id}`" if len(reports) == 1 else "any report that the line covers"
    return f"unknown field `{item}`: not declared in {where}", _one_of(item, names)


def _one_of(word: str, known: Sequence[str]) -> str:
    """A hint at the known name that is meant, else at the first ones that there are."""
    few = ", ".join(f"`{name}`" for name in known[:_FEW]) + (", …" if len(known) > _FEW else "")
    return nearest(word, known, otherwise=f"known: {few}")
