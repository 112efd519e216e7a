"""The strict parser: a policy that was understood whole, or every fault with its place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Faulty
from proxy.plan import Permit
from proxy.policy import rules, source
from proxy.policy.decide import decide
from proxy.policy.index import Policy
from proxy.policy.reading import MAX_FAULTS
from proxy.values import Type
from tests.policy.example import (
    ATTRIBUTES,
    CLASSES,
    DAILY,
    PURPOSES,
    REPORTS,
    STAFF,
    context,
    faults,
    load,
    report,
    subject,
)  # fmt: skip

GOOD = """\
# who may ask for what
p,  role:analyst,   sales/*,     read, true, allow
p,  role:owner,     sales/daily, read, env.purpose in ['reconcile', 'audit'], allow
p,  tool:bi,        set:sales,   act,  true, allow
p,  anyone,         sales/*,     read, env.now > time('2026-12-24T18:00'), deny

# in what form they see it
p2, role:analyst,   sales/*,     true, @public,                 clear
p2, role:analyst,   sales/*,     true, @confidential,           round(100)
p2, role:analyst,   sales/daily, true, store name,              pseudonym
p2, role:owner,     sales/daily, row.store_id in sub.stores, * except @personal, clear
p2, role:temp,      sales/*,     row.region == 'North', net_sales|margin, deny
g,  group:analysts, role:analyst
g2, sales/*,        set:sales
"""


def count(policy: Policy) -> int:
    """How many lines a policy holds."""
    access = sum(map(len, policy._access.values()))
    cells = sum(map(len, policy._cells.values()))
    return access + cells


def test_each_rule_of_a_good_file_is_in_the_policy():
    assert faults(GOOD) == ()
    assert count(load(GOOD)) == 9


def test_crlf_and_lf_read_the_same():
    assert count(load(GOOD.replace("\n", "\r\n"))) == 9


TRAPS = [
    # (line, column, part of the message, part of the hint)
    ("P, anyone, staff, read, true, allow", 1, "unknown line type `P`", "write `p`"),
    ("р, anyone, staff, read, true, allow", 1, "unknown line type `р`", "U+0440"),
    ('"p", anyone, staff, read, true, allow', 1, "unknown line type", "without quotes"),
    ("p3, anyone, staff, read, true, allow", 1, "unknown line type `p3`", ""),
    ("p, anyone, staff, read, true, Deny", 31, "unknown effect `Deny`", "write `deny`"),
    ('p, anyone, staff, read, true, "deny"', 31, "unknown effect", "without quotes"),
    ("p, anyone, staff, read, true, deny # x", 31, "unknown effect", "line of its own"),
    ("p, anyone, staff, read, true, dеny", 31, "unknown effect", "U+0435"),
    ("p, anyone, staff, read, true,", 30, "`effect` is missing", ""),
    ("p, anyone, staff, read, true", 29, "a `p` line has 6 cells, this one has 5", "p, subject"),
    ("p, anyone, staff, read, true, deny, x", 37, "this one has 7", ""),
    ("p, , staff, read, true, deny", 4, "`subject` is missing", ""),
    ("p, anyone, staff, Read, true, deny", 19, "unknown action `Read`", "write `read`"),
    ("p, anyone, staff, write, true, deny", 19, "unknown action `write`", ""),
    ("p, Role:x, staff, read, true, deny", 4, "not a principal", "write `role:x`"),
    ("p, alice, staff, read, true, deny", 4, "not a principal", "user:"),
    ("p, user:, staff, read, true, deny", 4, "not a principal", ""),
    ("p, user: x, staff, read, true, deny", 4, "not a principal", "write `user:x`"),
    ("p, user:*, staff, read, true, deny", 4, "not a principal", "write `anyone`"),
    ("p, *, staff, read, true, deny", 4, "not a principal", "write `anyone`"),
    ("p, user:e\u0301, staff, read, true, deny", 4, "composed form", "NFC"),
    ("p, Anyone, staff, read, true, deny", 4, "not a principal", "write `anyone`"),
    ("p, user:\u00a0x, staff, read, true, deny", 4, "not a principal", ""),
    ("g, user:a, role:x # for now", 19, "`#`", "a comment"),
    ('g, group:"A", role:x', 10, '`"`', "write `group:A`"),
    ("g, user:o''neil, role:x", 10, "`'`", "write `user:'o''neil'`"),
    ("g, user:a, role:x|role:y", 18, "`|role:`", "one name in a line"),
    ("g, user:a, role:x role:y", 19, "`role:`", "one name in a line"),
    ("p, user:a\u00adb, staff, read, true, deny", 10, "U+00AD", "soft hyphen"),
    ("p, user:a\u3164, staff, read, true, deny", 10, "U+3164", "hangul filler"),
    ("p, user:a\u00a0b, staff, read, true, deny", 10, "U+00A0", "no-break space"),
    ("g2, staff, set:s # all", 12, "not a set", ""),
    ("g2, staff, set:s\u00ad", 12, "not a set", ""),
    ("p, anyone, staf, read, true, deny", 12, "unknown report `staf`", "`staff`"),
    ("p, anyone, Staff, read, true, deny", 12, "unknown report `Staff`", "write `staff`"),
    ("p, anyone, staff/*, read, true, deny", 12, "no report is under `staff/*`", ""),
    ("p, anyone, sale/*, read, true, deny", 12, "no report is under `sale/*`", "`sales/*`"),
    ("p, anyone, sales*, read, true, deny", 17, "not a report", "ends in `/*`"),
    ("p, anyone, sales/*/x, read, true, deny", 18, "not a report", ""),
    ("p, anyone, *, read, true, deny", 12, "not a report", ""),
    ("p, anyone, /*, read, true, deny", 13, "not a report", ""),
    ("p, anyone, sales/d.ily, read, true, deny", 12, "unknown report", "`sales/daily`"),
    ("p, anyone, sales/../staff, read, true, deny", 12, "unknown report", ""),
    ("p, anyone, set:sale, read, true, deny", 12, "unknown set `set:sale`", "`set:sales`"),
    ("p, anyone, staff, read, row.x == 1, deny", 25, "", ""),
    ("p, anyone, set:other, read, true, deny", 12, "unknown set `set:other`", "g2"),
    ("p, anyone, staff, read, eval('1'), deny", 25, "", ""),
    ("p, anyone, staff, read, env.nwo > time('2026-01-01T00:00'), deny", 25, "", ""),
    ("p, anyone, staff, read, , deny", 25, "`when` is missing", ""),
    ("p2, anyone, staff, true, nmae, clear", 26, "unknown field `nmae`", "`name`"),
    ("p2, anyone, staff, true, name|nmae, clear", 31, "unknown field `nmae`", "`name`"),
    ("p2, anyone, staff, true, name||salary, redact", 31, "a field is missing", ""),
    ("p2, anyone, staff, true, @personl, clear", 26, "unknown class `@personl`", "`@personal`"),
    ("p2, anyone, staff, true, * except @personl, clear", 35, "unknown class", ""),
    ("p2, anyone, staff, true, * except nmae, clear", 35, "unknown field", ""),
    ("p2, anyone, staff, true, *except name, clear", 26, "not a list of fields", "* except"),
    ("p2, anyone, staff, true, * except, clear", 26, "not a list of fields", ""),
    ("p2, anyone, staff, true, name|*, redact", 31, "`*` stands alone", ""),
    ("p2, anyone, staff, true, net_sales, clear", 26, "not declared in `staff`", ""),
    ("p2, anyone, staff, row.nmae == 'x', name, clear", 20, "", ""),
    ("p2, anyone, staff, row.net_sales == 1, name, clear", 20, "", ""),
    ("p2, anyone, staff, true, name, cleer", 32, "`cleer`", ""),
    ("p2, anyone, staff, true, name, Deny", 32, "`Deny`", "write `deny`"),
    ("p2, anyone, staff, true, name, round(10)", 32, "does not take `name` of `staff`", "it takes"),
    ("p2, anyone, staff, true, *, round(10)", 29, "does not take `name` of `staff`", ""),
    ("p2, anyone, staff, true, name, round(10", 37, "never closed", ""),
    ("g, role:a, group:b", 12, "not a role", ""),
    ("g, anyone, role:b", 4, "`anyone` is not a member", ""),
    ("g, a)b, role:b", 5, "closes nothing", ""),
    ("g, user:a", 10, "a `g` line has 3 cells", ""),
    ("g2, staff, sales", 12, "not a set", "set:"),
    ("g2, staf, set:x", 5, "unknown report", ""),
    ("g3, a, b", 1, "unknown line type", ""),
]


@pytest.mark.parametrize(("line", "column", "message", "hint"), TRAPS)
def test_each_trap_is_a_fault_at_its_line_and_column(line, column, message, hint):
    found = faults(f"{GOOD}{line}\n")
    assert [(fault.file, fault.line, fault.column) for fault in found] == [
        ("policy.csv", GOOD.count("\n") + 1, column)
    ]
    assert message in found[0].message
    assert hint in found[0].hint
    assert found[0].hint or not hint


def test_all_faults_are_told_at_once_in_order():
    text = "".join(f"{line}\n" for line, *_ in TRAPS)
    found = faults(text + "p, anyone, staff, read, true, allow\n")
    assert [fault.line for fault in found] == list(range(1, len(TRAPS) + 1))


def test_after_a_thousand_faults_the_rest_is_not_looked_at():
    lines = "".join(f"p, anyone, unknown-{n}, read, true, allow\n" for n in range(3_000))
    assert MAX_FAULTS < len(faults(lines)) < MAX_FAULTS + 10


def test_faults_of_several_files_are_told_together():
    found = faults(GOOD + "x\n", grants=b"y\n", lockdown=b"\xef\xbb\xbfz\n")
    assert [(fault.file, fault.line) for fault in found] == [
        ("grants.csv", 1), ("lockdown.csv", 1), ("lockdown.csv", 1), ("policy.csv", 15),
    ]  # fmt: skip


def test_grants_and_lockdown_add_lines():
    policy = load(
        GOOD,
        grants=b"p, user:sam, staff, read, true, allow\n",
        lockdown=b"p, anyone, set:sales, read, true, deny\n",
    )
    assert count(policy) == 11


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "g, user:a, role:b\n", "p2, anyone, staff, true, *, redact\n"])  # fmt: skip
def test_a_policy_without_access_rules_is_refused(text):
    assert [fault.message for fault in faults(text)] == ["has no `p` line"]


def test_missing_files_are_faults():
    with pytest.raises(Faulty) as caught:
        source.load({}, reports=REPORTS, classes=CLASSES, attributes={}, version="0")
    assert {fault.file for fault in caught.value.faults} == {"model.conf", "policy.csv"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("&& !some(where (p.eft == deny))", ""),
        ("r.action == p.action && ", ""),
        ("&& truth(", "# && truth("),
        ("&& truth(", "; && truth("),
        ("holds(", "g("),
        ("g2 = _, _", "g2 = _, _, _"),
        ("p2 = sub, report, rows, fields, treatment", ""),
        ("[matchers]", "[matchers]\nm = true\n[x]"),
    ],
)
def test_a_model_that_is_not_the_shipped_one_is_refused(old, new):
    assert old in rules.MODEL
    files = {"model.conf": rules.MODEL.replace(old, new).encode(), "policy.csv": GOOD.encode()}
    with pytest.raises(Faulty) as caught:
        source.load(files, reports=REPORTS, classes=CLASSES, attributes=ATTRIBUTES, version="0")
    assert [fault.file for fault in caught.value.faults] == ["model.conf"]


def test_comments_and_blank_lines_of_the_model_do_not_matter():
    model = "# ours\n\n" + rules.MODEL.replace("\n", "\r\n")
    files = {"model.conf": model.encode(), "policy.csv": GOOD.encode()}
    source.load(files, reports=REPORTS, classes=CLASSES, attributes=ATTRIBUTES, version="0")


def test_circles_of_roles_and_sets_are_faults_at_their_last_lines():
    text = GOOD + (
        "g, role:a, role:b\ng, role:b, role:c\ng, role:c, role:a\ng, role:d, role:d\n"
        "g2, set:x, set:y\ng2, set:y, set:x\ng2, staff, set:x\n"
    )
    found = faults(text)
    assert [fault.line - GOOD.count("\n") for fault in found] == [3, 4, 6]
    assert "`role:a` in `role:b` in `role:c` in `role:a`" in found[0].message


def test_a_condition_of_a_prefix_may_name_a_field_that_only_some_reports_declare():
    assert faults(GOOD + "p2, anyone, sales/*, row.store_id == 1, net_sales, clear\n") == ()


def test_a_condition_must_fit_the_type_of_each_report_that_it_covers():
    reports = {r.id: r for r in (report("a/x", ("n", Type.INTEGER, "public")), report("a/y", ("n", Type.TEXT, "public")))}  # fmt: skip
    text = "p, anyone, a/*, read, true, allow\np2, anyone, a/*, row.n > 1, n, clear\n"
    with pytest.raises(Faulty) as caught:
        load(text, reports=reports)
    assert [fault.line for fault in caught.value.faults] == [2]


# ── forms that cannot be compared ──

MEETINGS = [
    # (first line, second line, do they clash)
    ("role:a, true, name, pseudonym", "role:b, true, name, partial(last=1)", True),
    ("anyone, true, name, pseudonym", "user:b, true, name, partial(last=1)", True),
    ("group:a, true, name, pseudonym", "user:b, true, name, partial(last=1)", True),
    ("user:b, true, name, pseudonym", "group:a, true, name, partial(last=1)", True),
    ("user:a, true, name, pseudonym", "user:a, true, name, partial(last=1)", True),
    ("tool:a, true, name, pseudonym", "tool:a, true, name, partial(last=1)", True),
    ("tool:a, true, name, pseudonym", "role:b, true, name, partial(last=1)", True),
    ("role:a, true, name, partial(last=2)", "role:b, true, name, partial(last=1)", True),
    ("role:a, true, *, pseudonym", "role:b, true, @personal, partial(last=1)", True),
    ("role:a, row.salary > 3, name, pseudonym", "role:b, row.salary < 3, name, partial(last=1)", True),
    ("user:a, true, name, pseudonym", "user:b, true, name, partial(last=1)", False),
    ("tool:a, true, name, pseudonym", "tool:b, true, name, partial(last=1)", False),
    ("tool:a, true, name, pseudonym", "user:b, true, name, partial(last=1)", False),
    ("tool:a, true, name, pseudonym", "group:b, true, name, partial(last=1)", False),
    ("role:a, true, name, pseudonym", "role:b, true, name, pseudonym", False),
    ("role:a, true, salary, round(10)", "role:b, true, salary, round(100)", False),
    ("role:a, true, name, pseudonym", "role:b, true, name, clear", False),
    ("role:a, true, name, pseudonym", "role:b, true, name, redact", False),
    ("role:a, true, name, pseudonym", "role:b, true, name, constant('x')", False),
    ("role:a, true, name, pseudonym", "role:b, true, name, deny", False),
    ("role:a, true, name, pseudonym", "role:b, false, name, partial(last=1)", False),
    ("role:a, true, salary, pseudonym", "role:b, true, name, partial(last=1)", False),
    ("role:a, true, salary, bucket(0|10|100)", "role:b, true, salary, bucket(0|100)", False),
    ("role:a, true, salary, bucket(0|10)", "role:b, true, salary, bucket(0|100)", True),
    ("user:a, true, salary, bucket(0|10)", "user:a, true, salary, bucket(0|100)", True),
    ("user:a, true, salary, bucket(0|10)", "user:b, true, salary, bucket(0|100)", False),
    ("role:a, true, salary, bucket(0|10)", "role:b, true, salary, round(10)", True),
    ("role:a, true, salary, bucket(0|10)", "role:b, true, salary, clear", False),
    ("role:a, true, since, truncate('week')", "role:b, true, since, truncate('year')", False),
    ("role:a, true, since, truncate('week')", "role:b, true, since, partial(first=4)", True),
    ("role:a, true, since, shift(days=9, per='name')", "role:b, true, since, shift(days=30, per='name')", False),
    ("role:a, true, since, shift(days=9, per='name')", "role:b, true, since, truncate('year')", True),
]  # fmt: skip


def _cell_line(text: str) -> str:
    principal, rest = text.split(",", 1)
    return f"p2, {principal}, staff,{rest}\n"


def test_a_name_in_quotes_is_what_stands_between_them():
    policy = load(
        "p, user:'o''neil, pat #1', staff, read, true, allow\n"
        "g, user:'o''neil, pat #1', role:'a|role:b'\n"
        "p2, role:'a|role:b', staff, true, *, clear\n"
    )
    who = subject("user:o'neil, pat #1")
    assert isinstance(decide(policy, subject=who, report=STAFF, context=context(who)), Permit)


def test_a_line_that_is_switched_off_hides_no_clash_of_the_lines_after_it():
    switched_off = _cell_line("role:a, false, name, partial(last=1)")
    text = "p, anyone, staff, read, true, allow\n" + switched_off
    clashing = _cell_line(MEETINGS[0][0]) + switched_off.replace("false", "true")
    assert [fault.line for fault in faults(text + clashing)] == [4]


@pytest.mark.parametrize(("first", "second", "clash"), MEETINGS)
def test_forms_that_cannot_be_compared_and_can_meet_are_a_fault_at_the_later_line(
    first, second, clash
):
    for one, other in ((first, second), (second, first)):
        text = "p, anyone, staff, read, true, allow\n" + _cell_line(one) + _cell_line(other)
        found = faults(text)
        assert [fault.line for fault in found] == ([3] if clash else [])
        if clash:
            assert text.split("\n")[2][found[0].column - 1 :] == other.split(", ", 3)[3]


def test_many_users_with_forms_of_their_own_clash_only_with_what_is_shared():
    users = "".join(
        _cell_line(f"user:u{n}, true, name, partial(last={n % 3 + 1})") for n in range(60)
    )
    text = "p, anyone, staff, read, true, allow\n" + users
    assert faults(text) == ()
    assert [fault.line for fault in faults(text + _cell_line("role:a, true, name, pseudonym"))] == [
        62
    ]


@pytest.mark.parametrize("principal", ["role:a", "user:a"])
def test_two_forms_that_a_third_compares_with_need_not_compare(principal):
    """`bucket(0)` compares with both of two that do not: whichever comes first, these are told of."""
    forms = ("bucket(0)", "bucket(0|10)", "bucket(0|100)")
    for order in itertools.permutations(forms):
        lines = "".join(_cell_line(f"{principal}, true, salary, {form}") for form in order)
        found = faults("p, anyone, staff, read, true, allow\n" + lines)
        later = max(order.index(form) for form in forms[1:])
        assert [fault.line for fault in found] == [later + 2]


def test_a_field_that_a_form_looks_at_must_be_one_of_each_report_of_its_line():
    """`per` of `shift` is held against the fields of each report, at its place."""
    line = _cell_line("role:a, true, since, shift(days=9, per='nmae')")
    (fault,) = faults("p, anyone, staff, read, true, allow\n" + line)
    assert line[fault.column - 1 :].startswith("per='nmae'")
    assert "`nmae`" in fault.message and "`name`" in fault.hint


def test_prefer_settles_which_of_two_forms_is_given():
    preferring = {**REPORTS, "staff": report("staff", *((f.name, f.type, f.class_) for f in STAFF.fields.values()), prefer=("pseudonym", "partial"))}  # fmt: skip
    text = "p, anyone, staff, read, true, allow\n" + _cell_line(MEETINGS[0][0]) + _cell_line(MEETINGS[0][1])  # fmt: skip
    load(text, reports=preferring)


# ── nothing but Faulty or a policy ──


def test_a_file_cut_off_at_any_byte_is_refused_or_is_exactly_its_first_lines():
    data = GOOD.encode()
    for end in range(len(data)):
        cut = data[:end]
        try:
            policy = load(cut)
        except Faulty:
            continue
        assert cut.endswith(b"\n")
        lines = [line for line in cut.decode().split("\n") if line.startswith("p")]
        assert count(policy) == len(lines)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)), st.integers(0, 3),
            st.sampled_from(["", ",", "\n", "'", "(", "]", "|", "*", "#", "p", "deny", "\ufeff", "é", "@", "\x00"]),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_a_damaged_policy_is_refused_or_keeps_each_line_that_is_no_comment(damage):
    text = GOOD
    for at, length, put in damage:
        text = text[:at] + put + text[at + length :]
    try:
        policy = load(text)
    except Faulty:
        return
    lines = [line for line in text.split("\n") if line.strip(" \t\r") and not line.startswith("#")]
    assert count(policy) == sum(line.strip(" \t").startswith("p") for line in lines)
    assert all(line.strip(" \t").startswith(("p,", "p2,", "g,", "g2,", "p ", "p2 ", "g ", "g2 ", "p\t")) for line in lines)  # fmt: skip


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_any_bytes_are_a_policy_or_faults(policy, model):
    files = {"policy.csv": policy, "model.conf": model, "grants.csv": policy[::-1]}
    with pytest.raises(Faulty) as caught:
        source.load(files, reports=REPORTS, classes=CLASSES, attributes=ATTRIBUTES, version="0")
    assert all(fault.message for fault in caught.value.faults)


@given(
    st.lists(
        st.lists(
            st.sampled_from(["p", "p2", "g", "g2", "anyone", "role:a", "user:b", "staff", "sales/*", "set:s",
                             "read", "true", "allow", "deny", "*", "@public", "clear", "name", "sub.region == 'x'", ""]),
            min_size=1, max_size=7,
        ).map(",".join),
        max_size=12,
    )
)  # fmt: skip
def test_no_line_is_skipped(lines):
    text = "p, anyone, staff, read, true, allow\n" + "".join(f"{line}\n" for line in lines)
    try:
        policy = load(text)
    except Faulty as error:
        told = {fault.line for fault in error.faults}
        assert told <= set(range(2, len(lines) + 2))
        return
    assert count(policy) == 1 + sum(line.startswith(("p,", "p2,")) for line in lines)


def test_reports_without_fields_of_a_class_get_no_rule_for_it():
    policy = load(
        "p, anyone, sales/*, read, true, allow\np2, anyone, sales/*, true, @personal, redact\n"
    )
    (rule,) = policy._cells["anyone", "sales/*"]
    assert rule.fields == {DAILY.id: frozenset({"email"}), "sales/eu/weekly": frozenset()}
    assert policy.purposes == PURPOSES
