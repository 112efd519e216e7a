"""What was found, as a page for people: one file without anything from elsewhere, to be read or printed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Final

from proxy.exposure.search import Certainty, Exposed
from proxy.exposure.told import Asking, in_words
from proxy.treatments import TABLE

_CERTAINTIES: Final[dict[Certainty, str]] = {
    "confirmed": "The answer went out to its end, and its evidence has such rows.",
    "assumed": """The evidence has such rows, and the answer broke off, its end is not on record, or a part of
        a document was asked for. Take it that all of it was received.""",
    "possible": """It cannot be excluded. There is no evidence of the rows, or it does not tell whether they
        are such rows.""",
}
_LIMITS: Final = (
    """It shows what left the proxy, and to whom by the token or certificate that was presented. It does not
    show that a person has read it, kept it or passed it on.""",
    """Rows are known by the fields that the catalogue names for that, as the store gave them then. A store
    that gives wrong keys makes for wrong evidence.""",
    """A record may say more than was received, never less. Evidence is made of some thousand rows at
    once: an answer that broke off may have stopped before the last rows that are counted here.""",
    """It holds the accesses that were found for this question, and no proof that there are no others: for
    that, the log itself is verified and asked again.""",
    """Names of people are from a directory beside the log, which is not signed and from which names can be
    erased. What the records have is the opaque id.""",
    """Whoever holds the log's keys can write another log. Only a checkpoint that was kept out of their
    reach shows that this is the one.""",
)
_BEFORE: Final = """<p>Beside this page are the records of each access, byte for byte, with a proof that
each is in the log, and a program that checks them with nothing but Python. README.md says how:</p>
<pre>python3 check.py --vkey '…the registry’s key, as you kept it…'</pre>"""
_HEAD: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Who was given these rows?</title>
"""


def page(asking: Asking, found: Sequence[Exposed], key: str) -> str:
    """The page; `key` is the registry's verifier key."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join((
        "<h1>Who was given these rows?</h1>",
        f'<p class="lead">{escape(_answer(found))}</p>',
        _question(asking),
        _by_subject(found),
        _accesses(found, asking.fields),
        _glossary(found),
        "<h2>What this does not show</h2>",
        "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in _LIMITS) + "</ul>",
        "<h2>How it is checked</h2>",
        _BEFORE,
        f"<p>By this bundle’s own word that key is <code>{escape(key)}</code>.</p>",
    ))  # fmt: skip
    return f"{_HEAD}<style>\n{style}</style></head>\n<body>\n{body}\n</body></html>\n"


def _answer(found: Sequence[Exposed]) -> str:
    if not found:
        return "No access is on record that may have given such rows."
    sure = [each for each in found if each.rows]
    maybe = len(found) - len(sure)
    people = len({_name(each) for each in sure})
    parts = []
    if sure:
        accesses = _counted(len(sure), "access", "accesses")
        who = _counted(people, "subject", "subjects")
        parts.append(f"{who} {'was' if people == 1 else 'were'} given such rows, in {accesses}.")
    if maybe:
        text = _counted(maybe, "access", "accesses")
        parts.append(f"Of {text} {'more ' if sure else ''}it cannot be excluded.")
    return " ".join(parts)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _question(asking: Asking) -> str:
    said = {
        "Rows": f"<code>{escape(asking.where)}</code>" if asking.where else "all",
        "Fields": escape(", ".join(asking.fields)) or "any",
        "Reports": escape(asking.report) or "all",
        "Time": escape(_span(asking)),
    }
    return "<h2>What was asked</h2><dl>" + _list(said.items()) + "</dl>"


def _span(asking: Asking) -> str:
    match asking.since, asking.until:
        case "", "":
            return "all that is on record"
        case since, "":
            return f"from {_moment(since)} on"
        case "", until:
            return f"until {_moment(until)}"
        case since, until:
            return f"from {_moment(since)} until {_moment(until)}"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"


def _list(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs)


def _name(exposed: Exposed) -> str:
    access = exposed.access
    return access.principal or access.subject or access.address


def _by_subject(found: Sequence[Exposed]) -> str:
    """How much each was given; the longest bar is the one who was given most."""
    if not found:
        return ""
    rows: dict[str, Counter[Certainty]] = defaultdict(Counter)
    accesses: Counter[str] = Counter()
    for each in found:
        accesses[_name(each)] += 1
        rows[_name(each)][each.certainty] += each.rows
        rows[_name(each)]["possible"] += each.possible
    most = max(counts.total() for counts in rows.values()) or 1
    lines = []
    for name, counts in sorted(rows.items(), key=lambda item: (-item[1].total(), item[0])):
        bars = "".join(
            f'<span class="bar {word}" style="width:{100 * counts[word] / most:.1f}%"></span>'
            for word in _CERTAINTIES
            if counts[word]
        )
        lines.append(
            f'<tr><td class="who">{escape(name)}<span class="bars">{bars}</span></td>'
            + "".join(f'<td class="number">{_number(counts[word])}</td>' for word in _CERTAINTIES)
            + f'<td class="number">{accesses[name]:,}</td></tr>'
        )
    return (
        "<h2>By whom</h2><p class='faint'>Rows are counted once for each access that gave them.</p>"
        '<table><thead><tr><th>who</th><th class="number">rows, confirmed</th>'
        '<th class="number">assumed</th><th class="number">possible</th>'
        f'<th class="number">accesses</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _accesses(found: Sequence[Exposed], fields: Sequence[str]) -> str:
    if not found:
        return ""
    heads = ("when", "who", "what", "how surely", "rows", "in which form", "policy")
    lines = []
    for each in found:
        access = each.access
        form = in_words(each.fields or each.possible_fields, fields)
        more = "more " if each.rows else ""
        maybe = (
            f"<span class='faint'>{each.possible:,} {more}possible</span>" if each.possible else ""
        )
        wrong = f"<br><strong>{escape(each.wrong)}</strong>" if each.wrong else ""
        for_ = (
            f"<br><span class='faint'>for {escape(access.purpose)}</span>" if access.purpose else ""
        )
        through = access.tool if access.tool and access.tool != _name(each) else ""
        tool = f"<br><span class='faint'>through {escape(through)}</span>" if through else ""
        lines.append(
            f"<tr><td>{_moment(access.started)}</td><td>{escape(_name(each))}{tool}{for_}</td>"
            f"<td>{escape(access.report)}<br><code>{escape(access.access)}</code></td>"
            f'<td><span class="mark {each.certainty}">{each.certainty}</span>{wrong}</td>'
            f'<td class="number">{_number(each.rows)} {maybe}</td><td>{escape(form)}</td>'
            f"<td><code>{escape(access.policy[:12])}</code></td></tr>"
        )
    header = "".join(
        f'<th class="number">{h}</th>' if h == "rows" else f"<th>{h}</th>" for h in heads
    )
    words = _list((word, escape(text)) for word, text in _CERTAINTIES.items())
    return (
        f"<h2>Each access</h2><table><thead><tr>{header}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table><dl>{words}</dl>"
    )


def _glossary(found: Sequence[Exposed]) -> str:
    """What the forms mean that occur."""
    forms = {
        form
        for each in found
        for fields in (each.fields, each.possible_fields)
        for counts in fields.values()
        for form in counts
    }
    said = {
        form: _marked(kind.summary)
        for form in sorted(forms)
        if (kind := TABLE.get(form.partition("(")[0])) is not None
    }
    return "<h2>What the forms mean</h2><dl>" + _list(said.items()) + "</dl>" if said else ""


def _marked(text: str) -> str:
    """A sentence of the documentation, with what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
