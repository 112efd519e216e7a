"""One seeded fault in each stage: context managers that break the running code from outside.

The product knows nothing of them. Each names the check of grants.py or inference.py that must fail with it, and what
that failure must say, so that it fails for the fault's own reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl

import proxy.audit.log
import proxy.formats.csv
import proxy.formats.json_tokens
import proxy.gateway
import proxy.gateway.paging
import proxy.gateway.parts
import proxy.gateway.record
import proxy.gateway.recorder
import proxy.gateway.view
import proxy.policy.index
import proxy.policy.preference
import proxy.transform
import proxy.treatments.groups
from proxy.access import Receipt
from proxy.batch import Batch
from proxy.errors import SourceRefused
from proxy.few import Cells
from proxy.gateway.view import View
from proxy.plan import Choice, Column, Deny, Plan
from proxy.policy.lines import Effect
from proxy.reasons import Reason
from proxy.treatments.base import Operation, Site, Treatment
from proxy.treatments.clear import Clear
from proxy.treatments.constants import Constant, Redact
from proxy.treatments.encryption import Encrypt
from proxy.treatments.masking import Partial
from proxy.treatments.pseudonyms import Pseudonym
from proxy.treatments.rounding import Round
from proxy.treatments.tokens import Tokenise
from tests.promises import grants, inference
from tests.promises.grants import Check, Stage


@dataclass(frozen=True)
class Mutant:
    name: str
    """The fault, in words."""
    broken: Callable[[], AbstractContextManager[Any]]
    check: Check
    because: str
    """A pattern of what the failing check says."""


# ── decide ──


@contextmanager
def _without_access_denials() -> Iterator[None]:
    made = proxy.policy.index.Slice.__init__

    def forgetful(self: Any, *, access: Any, **rest: Any) -> None:
        made(self, access=[rule for rule in access if rule.effect is not Effect.DENY], **rest)

    with patch.object(proxy.policy.index.Slice, "__init__", forgetful):
        yield


@contextmanager
def _tools_lend_their_grants() -> Iterator[None]:
    def lent(self: Any, user: Any, groups: Any, tool: Any) -> Any:
        names = [name for name in (user, *groups, tool) if name]
        return self._same(self._principals(names), self._principals(names), None)

    with patch.object(proxy.policy.index.Policy, "_find_standing", lent):
        yield


@contextmanager
def _denials_that_tell() -> Iterator[None]:
    decide = proxy.gateway.decide

    def telling(*arguments: Any, **named: Any) -> Any:
        decision = decide(*arguments, **named)
        return replace(decision, reason=Reason.PURPOSE) if isinstance(decision, Deny) else decision

    with patch.object(proxy.gateway, "decide", telling):
        yield


# ── merge ──


def _merging(change: Callable[[Any, Any, Callable[..., Plan | None]], Plan | None]) -> Any:
    merge = proxy.policy.index.merge
    return patch.object(
        proxy.policy.index,
        "merge",
        lambda report, rules, carried: change(report, list(rules), partial(merge, carried=carried)),
    )


def _without_denials(report: Any, rules: list[Any], merge: Any) -> Plan | None:
    return merge(report, [rule for rule in rules if rule.treatment is not None])


def _with_every_field(report: Any, rules: list[Any], merge: Any) -> Plan | None:
    """The fields that the plan forgets are given where the first field is."""
    plan = merge(report, rules)
    if plan is None:
        return None
    known = {column.field.name: column for column in plan.columns}
    when = next(column.choices[0].when for column in plan.columns if column.choices)
    columns = [
        known.get(
            field.name,
            Column(field=field, type=field.type, choices=(Choice(when=when, treatment=Clear()),)),
        )
        for field in report.fields.values()
    ]
    return replace(plan, columns=tuple(columns))


@contextmanager
def _coarsest_first() -> Iterator[None]:
    ranks = proxy.policy.preference._ranks
    reversed_ = {name: -kind.rank for name, kind in proxy.policy.preference.TABLE.items()}
    with patch.object(
        proxy.policy.preference, "_ranks", lambda prefer: {**ranks(prefer), **reversed_}
    ):
        yield


# ── transform ──


@contextmanager
def _template_with_values() -> Iterator[None]:
    """The first requester's attributes stay in the plan."""
    bind = proxy.transform.bind
    first: dict[int, tuple[Plan, Any]] = {}

    def remembering(plan: Plan, *, context: Any, **rest: Any) -> Any:
        return bind(plan, context=first.setdefault(id(plan), (plan, context))[1], **rest)

    with patch.object(proxy.transform, "bind", remembering):
        yield


@contextmanager
def _kept_for(whom: Callable[[Any, Any], Any]) -> Iterator[None]:
    def key_of(permit: Any, context: Any, *rest: Any) -> Any:
        return whom(permit, context), *rest

    with patch("proxy.gateway.making.key_of", key_of):
        yield


def _allows(true_where: Callable[[pl.Series], Any]) -> Any:
    def known(outcome: Any) -> Any:
        return true_where(outcome) if isinstance(outcome, pl.Series) else outcome is True

    return patch.object(proxy.transform, "known_true", known)


@contextmanager
def _unknown_denies_nothing() -> Iterator[None]:
    hidden = proxy.transform.hidden

    def lenient(denies: Any, outcomes: Any) -> Any:
        known = [
            each.fill_null(value=False) if isinstance(each, pl.Series) else each
            for each in outcomes
        ]
        return hidden(denies, known)

    with patch.object(proxy.transform, "hidden", lenient):
        yield


# ── treatments ──


@contextmanager
def _identity(kind: type[Treatment]) -> Iterator[None]:
    def bind(self: Any, site: Site) -> Operation:
        return lambda batch: batch.values(site.field)

    with patch.object(kind, "bind", bind):
        yield


def _all(batch: Batch) -> Cells:
    return batch.repeated("").is_not_null()


_hide_more = proxy.treatments.groups.Tally._hide_more


def _of_the_whole_alone(self: Any, hidden: Any, depth: int) -> None:
    if depth == 0:
        _hide_more(self, hidden, depth)


@contextmanager
def _groups(change: str, result: Callable[..., Any]) -> Iterator[None]:
    with patch(f"proxy.treatments.groups.{change}", result):
        yield


# ── formats ──


def _header(change: Callable[[Any, Any, bytes], dict[str, int]]) -> Any:
    open_ = proxy.formats.csv.CsvDecoder._open

    def wrong(self: Any, buffer: bytes, places: list[int]) -> Any:
        header = open_(self, buffer, places)
        return replace(header, wanted=change(self, header, buffer[: places[-1]]))

    return patch.object(proxy.formats.csv.CsvDecoder, "_open", wrong)


@contextmanager
def _columns_by_position() -> Iterator[None]:
    def positional(self: Any, _header: Any, _record: bytes) -> dict[str, int]:
        return {name: at for at, name in enumerate(self._fields) if name in self._reading.wanted}

    with _header(positional):
        yield


@contextmanager
def _containers_are_values() -> Iterator[None]:
    void = np.zeros(256, np.bool_)
    void[list(b"\nn")] = True
    with patch.object(proxy.formats.json_tokens, "_VOID", void):
        yield


@contextmanager
def every_column_decoded() -> Iterator[None]:
    """The decoder hands on columns that nobody asked for: one wall of several falls."""

    def greedy(_self: Any, _header: Any, record: bytes) -> dict[str, int]:
        names = record.decode().rstrip("\n").split(",")
        return {name: at for at, name in enumerate(names)}

    with _header(greedy):
        yield


@contextmanager
def _errors_repeat_the_source() -> Iterator[None]:
    cut = proxy.formats.csv.CsvDecoder.cut

    def repeating(self: Any, *blocks: bytes) -> Any:
        try:
            return cut(self, *blocks)
        except SourceRefused as refused:
            raise SourceRefused(refused.cause, b"".join(blocks).decode("latin-1")) from refused

    with patch.object(proxy.formats.csv.CsvDecoder, "cut", repeating):
        yield


# ── gateway ──


@contextmanager
def _framing_follows_the_source() -> Iterator[None]:
    def cut(self: Any, *, everything: bool) -> Iterator[Any]:
        if self._size or everything:
            yield self._view.block(self._taken(self._size), self._cut_off, last=everything)

    with patch.object(proxy.gateway.view.Cutter, "cut", cut):
        yield


@contextmanager
def _parameters_unchecked() -> Iterator[None]:
    with patch.object(proxy.gateway, "_selects_on_hidden", lambda *_: ()):
        yield


@contextmanager
def _hidden_orders_get_through() -> Iterator[None]:
    with patch("proxy.gateway.making.tells_of_hidden", lambda _: False):
        yield


@contextmanager
def _pages_of_the_store_s_rows() -> Iterator[None]:
    def of_all(self: Any, part: Any) -> bytes:
        rows = self._page.within(self._met, part.batch.height)
        self._met += part.batch.height
        every = proxy.gateway.parts.those(part.batch, True, rows)
        return View.add(self, View.part(self, part.batch.filter(every)))

    with patch.object(proxy.gateway.paging.PagedView, "add", of_all):
        yield


@contextmanager
def _parameters_recorded_as_they_are() -> Iterator[None]:
    def kept(self: Any, parameters: Any, *_: Any) -> None:
        self.parameters = dict(parameters)

    with patch.object(proxy.gateway.record.Access, "recorded", kept):
        yield


def _later(work: Any) -> None:
    """Let the record be made when it may; nobody waits for it."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


@contextmanager
def _release_before_the_record() -> Iterator[None]:
    record = proxy.gateway.recorder.Recorder.record

    async def hasty(self: Any, access: Any, step: Any, **rest: Any) -> Receipt:
        _later(record(self, access, step, **rest))
        return Receipt(access=access.id, log="", index=0)

    with patch.object(proxy.gateway.recorder.Recorder, "record", hasty):
        yield


# ── audit ──


@contextmanager
def _receipt_without_durability() -> Iterator[None]:
    append = proxy.audit.log.AccessLog.append

    async def hasty(self: Any, event: Any, **rest: Any) -> Receipt:
        _later(append(self, event, **rest))
        return Receipt(access=event.access, log=self.name, index=0)

    with patch.object(proxy.audit.log.AccessLog, "append", hasty):
        yield


# ── the table ──


def _on_any_policy(at: Stage) -> None:
    grants.any_policy_gives_what_the_reference_gives(at, range(150))


def _on_long_answers(at: Stage) -> None:
    for format_ in grants.FORMATS:
        grants.interference(at, format_, 8_000, (0, 4_000))


_CANARY = "in the (csv|json) answer"
_UNLIKE = "is not given as|permitted|rows|columns"
MUTANTS = (
    Mutant("a deny line of p forgotten", _without_access_denials,
           grants.a_forbidden_report_looks_unknown, "/vault/refused.csv"),
    Mutant("a tool lends its grants to its user", _tools_lend_their_grants, _on_any_policy, _UNLIKE),
    Mutant("a denial says more than that of an unknown report", _denials_that_tell,
           grants.a_forbidden_report_looks_unknown, "/vault/secret.csv"),
    Mutant("a deny line of p2 forgotten", partial(_merging, _without_denials),
           grants.canaries_stay_hidden, _CANARY),
    Mutant("a field that no line grants is given", partial(_merging, _with_every_field),
           grants.canaries_stay_hidden, _CANARY),
    Mutant("the least preferred form wins", _coarsest_first, _on_any_policy, _UNLIKE),
    Mutant("unknown is true in an allow", partial(_allows, lambda known: known.fill_null(value=True)),
           grants.canaries_stay_hidden, _CANARY),
    Mutant("row conditions are skipped", partial(_allows, lambda _: True),
           grants.canaries_stay_hidden, _CANARY),
    Mutant("unknown is false in a deny", _unknown_denies_nothing,
           grants.canaries_stay_hidden, _CANARY),
    Mutant("a plan keeps the first requester's values", _template_with_values,
           grants.each_gets_own_rows, "sam|kim|lee|pat|nan"),
    Mutant("a kept view is everybody's", partial(_kept_for, lambda *_: ()),
           grants.ranges_are_of_own_rows, "the rows of pat"),
    Mutant("a kept view is its user's, whatever its attributes",
           partial(_kept_for, lambda permit, _: permit.subject.name),
           grants.ranges_are_of_own_rows, "the rows of sam, moved"),
    *(Mutant(f"`{kind.name}` gives the cell itself", partial(_identity, kind),
             grants.canaries_stay_hidden, _CANARY)
      for kind in (Tokenise, Pseudonym, Partial, Round, Encrypt, Redact, Constant)),
    Mutant("groups are suppressed alone", partial(_groups, "Tally._hide_more", lambda *_: None),
           inference.small_groups_do_not_follow_from_totals, "a small group follows from a total"),
    Mutant("totals of enclosing groups are forgotten",
           partial(_groups, "Tally._hide_more", _of_the_whole_alone),
           inference.small_groups_do_not_follow_from_totals, "a small group follows from a total"),
    Mutant("every group is given", partial(_groups, "Groups.shown", lambda _, batch: _all(batch)),
           inference.small_groups_do_not_follow_from_totals, "a small group is given"),
    Mutant("columns are taken by position", _columns_by_position,
           grants.nested_and_stray_canaries_stay_hidden, "in the csv answer"),
    Mutant("objects and arrays pass as values", _containers_are_values,
           grants.nested_and_stray_canaries_stay_hidden, "in the json answer"),
    Mutant("an error repeats the store's bytes", _errors_repeat_the_source,
           grants.errors_hold_no_canary, "in the process's logs"),
    Mutant("blocks follow the source's pieces", _framing_follows_the_source, _on_long_answers,
           "8000 rows among 4000 others"),
    Mutant("parameters on hidden fields reach the store", _parameters_unchecked,
           grants.parameters_do_not_reach_behind_the_plan, "least="),
    Mutant("an order by a hidden field gets through", _hidden_orders_get_through,
           inference.orders_do_not_depend_on_what_is_hidden, "the order of"),
    Mutant("a page is one of the store's rows", _pages_of_the_store_s_rows,
           inference.pages_do_not_depend_on_what_is_hidden, "a page"),
    Mutant("parameters are recorded as they are", _parameters_recorded_as_they_are,
           grants.parameters_do_not_reach_behind_the_plan, "in the access log's files"),
    Mutant("release before the record", _release_before_the_record,
           grants.nothing_leaves_while_the_log_is_locked, "answered without a record"),
    Mutant("a receipt before the commit", _receipt_without_durability,
           grants.nothing_leaves_while_the_log_is_locked, "answered without a record"),
)  # fmt: skip
