"""What the solver rules out does not happen: its formulas against the language's own evaluator."""

from __future__ import annotations

import msgspec
import z3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.policy.conditions import compile as compiled
from proxy.policy.conditions.check import Scope
from proxy.policy.conditions.evaluate import function
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import Name, canonical, names
from proxy.review.constants import constant, text_constant, text_of
from proxy.review.facts import Facts, Unmodelled
from proxy.review.pairs import written
from proxy.review.solver import Solver
from proxy.review.terms import SORT
from proxy.review.walk import Writer
from proxy.subject import AttributeType
from proxy.values import Type
from tests.policy.conditions_strategies import CONTEXTS, OF_ROWS, ROWS, cells


def bound(facts, node, context, row, order):
    """That each variable has the value that the evaluator reads."""
    read = {(name.where, name.name): name for name in names(node)}
    for (where, name, _), term in facts.variables.items():
        value = function(read.get((where, name), Name(where, name)), ROWS, order)(context, row)
        if where == "env":
            assume(value is not None)
        yield term.known == (value is not None)
        if value is None:
            continue
        if term.many:
            among = z3.EmptySet(SORT[term.kind]())
            for each in value:
                among = z3.SetAdd(among, constant(each))
            yield term.value == among
        else:
            yield term.value == constant(value)


@settings(max_examples=150)
@given(OF_ROWS.conditions(2), CONTEXTS, st.tuples(*map(cells, ROWS.fields.values())))
def test_what_is_ruled_out_does_not_happen(node, context, row):
    """With every name bound to its value, the evaluator's truth is one that the formulas allow."""
    context = msgspec.structs.replace(
        context, date=context.now.date(), method="GET", tool="ab", purpose="audit", action="read"
    )
    order = tuple(ROWS.fields)
    facts = Facts(purposes=(context.purpose,), action=context.action)
    try:
        term = Writer(facts, ROWS, {}).term(node)
        said = list(bound(facts, node, context, row, order))
    except Unmodelled:
        assume(False)
    texts = [*row, context.ip, context.tool, context.purpose, *context.attributes.values()]
    assume(all(char <= "\U0002ffff" for text in texts for char in str(text or "")))
    truth = function(node, ROWS, order)(context, row)
    if term.kind is None:
        assert truth is None, canonical(node)
        return
    solver = z3.Solver()
    solver.set("timeout", 5_000)
    solver.add(*facts.axioms, *said, term.known == (truth is not None))
    if truth is not None:
        solver.add(term.value == truth)
    assert solver.check() != z3.unsat, canonical(node)


@given(st.text(st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs"])))
def test_texts_come_back(text):
    """A text is the same after it was a constant, whatever looks like an escape in it."""
    assert text_of(z3.simplify(text_constant(text))) == text


SCOPE = Scope(
    fields={"region": Type.TEXT, "units": Type.INTEGER, "price": Type.DECIMAL, "day": Type.DATE},
    elsewhere={},
    attributes={"stores": AttributeType(type=Type.TEXT, many=True)},
)
NEVER = (
    "row.units > 2 and row.units < 3", "row.region == 'a' and row.region == 'b'",
    "row.day > date('9999-12-31')", "row.price * 3 == 1", "length(row.region) < 0",
    "lower(row.region) == 'abc' and length(row.region) > 3", "env.purpose == 'leisure'",
    "env.now < time('2026-01-01T00:00') and env.date > date('2026-01-01')",
    "ip_in(env.ip, '10.0.0.0/8') and ip_in(env.ip, '10.0.0.0/7') != true",
    "row.region in sub.stores and not present(sub.stores)", "not (present(row.units) or true)",
)  # fmt: skip
EVER = (
    "row.units > 2 and row.units < 4", "row.price * 4 == 1", "lower(row.region) == 'abc' and row.region != 'abc'",
    "ip_in(env.ip, '10.9.0.0/16') and row.region in sub.stores", "env.purpose == 'audit'",
    "row.day - days(3) == env.date and row.region > 'Z'",
    "row.region not in sub.stores", "1 / row.units == 0.25",
)  # fmt: skip


def found(text):
    solver = Solver(purposes=("audit",), action="read", seconds=10)
    condition = compiled(text, SCOPE)
    order = sorted(condition.fields)

    def right(at):
        cells = [written(at.row.get(name)) for name in order]
        return function(parse(text), SCOPE, order)(at.context(action="read"), cells) is True

    return solver.find(solver.truth(condition.text, SCOPE).true, right)


def test_what_is_never_true_is_known_to_be():
    """Contradictions of every kind of value are proved, not searched for."""
    assert [text for text in NEVER if found(text) is not None] == []


def test_what_can_be_true_has_a_witness():
    """What some row satisfies is shown by one, that the evaluator agrees on."""
    assert [text for text in EVER if found(text) is None] == []
