"""Make docs/configuration.md, faults.md and treatments.md: `make docs`, from what the program is held to."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import takewhile
from pathlib import Path

import msgspec

from proxy import settings, treatments
from proxy.alarms.kinds import HOUR, Kind
from proxy.batch import PLAIN, Batch
from proxy.catalogue import entries
from proxy.few import Few
from proxy.formats import FORMATS
from proxy.gateway.tracing import ATTRIBUTES, STEPS
from proxy.identity import entries as subjects
from proxy.identity import tools
from proxy.keys import Keyring, MasterKey
from proxy.metrics.listener import TABLE as OF_LISTENER
from proxy.metrics.table import TABLE
from proxy.metrics.workers import TABLE as OF_WORKERS
from proxy.policy import limits
from proxy.problems import TYPE_PREFIX
from proxy.reasons import Reason
from proxy.report import EXTENSIONS
from proxy.review import specification
from proxy.review.lint import LINT
from proxy.treatments.base import Site, Treatment
from proxy.treatments.groups import Tally
from proxy.values import Type

HERE = Path(__file__).parent

FAULT_PAGES = (
    "files", "lines", "rules", "conditions", "treatments", "people", "yaml", "reports", "subjects",
    "limits", "tests",
)  # fmt: skip
"""The pages of docs/faults, in the order in which a reader may want them."""


def described(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Member -> the docstring that stands below it in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for member, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if (
            isinstance(member, ast.AnnAssign)
            and isinstance(member.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[member.target.id] = " ".join(str(after.value.value).split())
    return found


def name_of(type_: object) -> str:
    """A type in the reader's words."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated:
        return name_of(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(name_of(a) for a in arguments if a is not type(None))
    if origin is typing.Literal:
        return " \\| ".join(f"`{a}`" for a in arguments)
    if origin in (tuple, list):
        return f"list of {name_of(arguments[0])}"
    if origin is dict:
        return f"mapping of {name_of(arguments[1])}"
    if isinstance(type_, type) and issubclass(type_, Enum):
        return " \\| ".join(f"`{member.value}`" for member in type_)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return "mapping, see below"
    names = {str: "text", int: "whole number", bool: "`true` \\| `false`", float: "number"}
    return names.get(type_, str(type_))  # type: ignore[call-overload, no-any-return]


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """A member's default as it would be written."""
    if field.required:
        return "**required**"
    if field.default is msgspec.NODEFAULT:
        value = field.default_factory() if callable(field.default_factory) else None
    else:
        value = field.default
    match value:
        case None | () | "":
            return "–"
        case bool():
            return f"`{str(value).lower()}`"
        case Enum():
            return f"`{value.value}`"
        case msgspec.Struct():
            return "as below"
        case tuple() | list():
            items = ", ".join(str(v.value if isinstance(v, Enum) else v) for v in value)
            return f"`[{items}]`" if value else "–"
        case dict():
            return "–"
        case _:
            return f"`{value}`"


def table(struct: type[msgspec.Struct]) -> str:
    """The members of a type, one line each."""
    hints = typing.get_type_hints(struct, include_extras=True)
    words = described(struct)
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{field.encode_name}` | {name_of(hints[field.name])} | {default_of(field)} "
        f"| {words.get(field.name, '')} |"
        for field in msgspec.structs.fields(struct)
    ]
    return "\n".join(lines)


def structs(*listed: type[msgspec.Struct]) -> str:
    """Some types, each with what its docstring says."""
    return "\n\n".join(f"{' '.join((s.__doc__ or '').split())}\n\n{table(s)}" for s in listed)


def reached(struct: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """A type and those of all that it holds, each once, in the order of the fields."""
    found = {struct: None}
    for name in struct.__struct_fields__:
        for part in _structs_in(typing.get_type_hints(struct)[name]):
            found |= dict.fromkeys(reached(part))
    return [*found]


def _structs_in(hint: object) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for part in typing.get_args(hint):
        yield from _structs_in(part)


def reasons() -> str:
    """The table of problems."""
    lines = ["| status | type | title | what to do |", "| --- | --- | --- | --- |"]
    for reason in Reason:
        row = reason.value
        lines.append(f"| {row.status} | `{TYPE_PREFIX}{row.slug}` | {row.title} | {row.advice} |")
    return "\n".join(lines)


def warnings() -> str:
    """The table of what is odd."""
    lines = ["| warning | why it matters |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{kind}` | {row.why} |" for kind, row in LINT.items()])


def pairs(what: str, rows: Mapping[str, str]) -> str:
    """A table of words and what they mean."""
    lines = [f"| {what} | |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{name}` | {text} |" for name, text in rows.items()])


def metrics() -> str:
    """The table of metrics."""
    lines = ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for row in (*TABLE, *OF_LISTENER, *OF_WORKERS):
        labels = ", ".join(f"`{label}`" for label in row.labels) or "–"
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(lines)


def formats() -> str:
    """The table of formats."""
    lines = [
        f"| format | ends with | media type | {' | '.join(Type)} |",
        "| --- " * (len(Type) + 3) + "|",
    ]
    for name, row in FORMATS.items():
        media_type = row.media_type.partition(";")[0]
        written = " | ".join(row.written[type_] for type_ in Type)
        lines.append(f"| `{name}` | `{EXTENSIONS[name]}` | `{media_type}` | {written} |")
    return "\n".join(lines)


_KEYRING = Keyring(
    [
        MasterKey(
            id="example", created="", state="active", secret=b"for documentation, nowhere else."
        )
    ]
)
"""The key of the examples: with another one, they come out otherwise."""
_PERSON = "C-17"
"""What the other fields hold that a treatment of an example looks at."""
_YES = {True: "yes", False: "no"}
_TRIES = 8
"""So often is an example made that differs each time, to find out what of it does not."""


def given(text: str, type_: Type, cell: str | None, *, rows: int = 1) -> str | None:
    """What the treatment that `text` writes makes of a cell of that type, where it is one of so many rows."""
    treatment = treatments.parse(text)
    site = Site(
        report="sales/daily",
        field="field",
        type=type_,
        key=(),
        purpose="",
        subject="user:ada",
        keyring=_KEYRING,
    )
    others = treatment.needs
    batch = Batch(
        {"field": Few([cell] * rows), **{name: Few([_PERSON] * rows) for name in others}},
        height=rows,
        lexis=PLAIN,
        types={"field": type_, **dict.fromkeys(others, Type.TEXT)},
        few=True,
    )
    choosing, counting = treatment.choosing(site), treatment.counting
    if choosing is None or counting is None:
        found = treatment.bind(site)(batch)
    else:
        tally = Tally(counting, dict.fromkeys(counting.by, Type.TEXT), most=1 << 20)
        tally.count(batch)
        found = choosing(batch, tally.groups().shown(batch))
    return typing.cast("str | None", found.to_list()[0])


def _shown(text: str, type_: Type, cell: str | None) -> str:
    """The same as the page writes it."""
    first = given(text, type_, cell)
    counting = treatments.parse(text).counting
    if counting is not None and cell is not None:
        assert first is None
        found = given(text, type_, cell, rows=counting.least)
        return f"`{found}` in a group of {counting.least} rows, no value in a smaller one"
    if first is None:
        return "no value"
    if treatments.parse(text).repeats:
        return f"`{first}`"
    tries = [first, *(given(text, type_, cell) or "" for _ in range(_TRIES))]
    alike = takewhile(lambda at: len(set(at)) == 1, zip(*tries, strict=False))
    return f"`{''.join(at[0] for at in alike)}…`, {len(first)} characters, others each time"


def _treatment(kind: type[Treatment], place: int) -> str:
    """The section of one treatment."""
    lines = [f"## `{kind.name}`", "", kind.summary]
    if kind.parameters:
        lines += ["", "| parameter | |", "| --- | --- |"]
        lines += [
            f"| `{each.name}`{' (required)' if each.required else ''} | {each.summary} |"
            for each in kind.parameters
        ]
    lines += ["", "| form | type | before | after |", "| --- | --- | --- | --- |"]
    for text, type_, cell in kind.shown:
        written = text.replace("|", "\\|")
        lines.append(f"| `{written}` | {type_} | `{cell}` | {_shown(text, type_, cell)} |")
    on = "any type" if kind.accepts == frozenset(Type) else ", ".join(sorted(kind.accepts))
    text, type_, _ = kind.shown[0]
    facts = {
        "takes": on,
        "gives": kind.output,
        "an empty cell is given as": _shown(text, type_, None),
        "deterministic": _YES[kind.deterministic],
        "reversible": _YES[kind.reversible],
        "a value is given as it is": kind.unchanged,
        "twice is once": _YES[kind.idempotent],
        "place in the order of preference": str(place),
    }
    lines += [
        "",
        f"- **What it tells**: {kind.tells}",
        f"- **When to use it**: {kind.use}",
        f"- **When not**: {kind.avoid}",
        f"- {' · '.join(f'{what}: {answer}' for what, answer in facts.items())}",
    ]
    return "\n".join(lines)


def treatments_page() -> str:
    """The page of the treatments."""
    kinds = [*treatments.TABLE.values()]
    overview = [
        "| | treatment | what is given | type given | deterministic | reversible |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for place, kind in enumerate(kinds, 1):
        name = f"[`{kind.name}`](#{kind.name})"
        answers = f"{_YES[kind.deterministic]} | {_YES[kind.reversible]}"
        overview.append(f"| {place} | {name} | {kind.summary} | {kind.output} | {answers} |")
    return (
        (HERE / "treatments.in.md")
        .read_text("utf-8")
        .format(
            overview="\n".join(overview),
            treatments="\n\n".join(_treatment(kind, n) for n, kind in enumerate(kinds, 1)),
        )
    )


class Told(typing.NamedTuple):
    """A section of a page of docs/faults: a message that `policy check` may tell."""

    page: str
    message: str
    """With `…` for what varies."""
    anchor: str
    advice: str
    """What to do about it, in one paragraph."""
    text: str
    """The examples, or why there is none."""


def title_of(page: str) -> str:
    """The title of a page of docs/faults."""
    return _faults(page).partition("\n")[0].removeprefix("# ")


def told(page: str) -> Iterator[Told]:
    """The messages of a page of docs/faults."""
    anchors: dict[str, int] = {}
    for section in re.split(r"^### ", _faults(page), flags=re.MULTILINE)[1:]:
        message, _, rest = section.partition("\n")
        advice, _, text = rest.strip().partition("\n\n")
        anchor = re.sub(r"[^\w\- ]", "", message.lower()).replace(" ", "-")
        number = anchors[anchor] = anchors.get(anchor, -1) + 1
        yield Told(
            page=page,
            message=message,
            anchor=f"{anchor}-{number}" if number else anchor,
            advice=" ".join(advice.split()),
            text=text,
        )


def _faults(page: str) -> str:
    return (HERE / "faults" / f"{page}.md").read_text("utf-8")


def faults() -> str:
    """The table of everything that `policy check` may tell, each with a link to its examples."""
    parts = [(HERE / "faults.in.md").read_text("utf-8").rstrip()]
    for page in FAULT_PAGES:
        lines = [f"## {title_of(page)}", "", "| message | what to do |", "| --- | --- |"]
        for row in told(page):
            message, advice = (
                text.replace("|", "\\|").replace("](../", "](")
                for text in (_code(row.message), row.advice)
            )
            lines.append(f"| [{message}](faults/{page}.md#{row.anchor}) | {advice} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _code(message: str) -> str:
    """A message as code, in more backticks than it holds."""
    return f"`` {message} ``" if "`" in message else f"`{message}`"


def page() -> str:
    """The page of the configuration."""
    return (
        (HERE / "configuration.in.md")
        .read_text("utf-8")
        .format(
            settings=structs(*reached(settings.Settings)),
            catalogue=structs(*_entries(entries)),
            subjects=structs(*_entries(subjects), tools.ToolEntry),
            tests=structs(*_entries(specification)),
            warnings=warnings(),
            treatments=treatments.documentation(),
            forms=treatments.by_type(),
            formats=formats(),
            metrics=metrics(),
            steps=pairs("step", STEPS),
            attributes=pairs("attribute", ATTRIBUTES),
            reasons=reasons(),
        )
    )


def limits_page() -> str:
    """The page of limits and alarms."""
    kinds = "\n".join(
        f"| `{row.slug}` | {row.severity} | {row.title} | {row.do} | {_long(row.again)} |"
        for row in (kind.value for kind in Kind)
    )
    return (
        (HERE / "limits.in.md")
        .read_text("utf-8")
        .format(
            limits=structs(limits.LimitEntry),
            budgets=structs(settings.Budgets),
            alarms=structs(settings.Alarms),
            kinds=kinds,
        )
    )


def _long(seconds: int) -> str:
    hours = seconds // HOUR
    return f"{hours // 24} d" if hours % 24 == 0 else f"{hours} h"


def _entries(module: types.ModuleType) -> list[type[msgspec.Struct]]:
    """A module's own structs, the whole file's first, the others in the order of the source."""
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    ]
    return [own[-1], *own[:-1]]


if __name__ == "__main__":
    (HERE / "configuration.md").write_text(page(), "utf-8")
    (HERE / "faults.md").write_text(faults(), "utf-8")
    (HERE / "limits.md").write_text(limits_page(), "utf-8")
    (HERE / "treatments.md").write_text(treatments_page(), "utf-8")
