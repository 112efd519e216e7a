"""docs/faults lists every message of `policy check`, each with an example that the program is held to.

To add a message: write it in the code, then a section in the page of `PAGES` that names the module:
its template as the heading, what to do about it, and an example (tests/faults/examples.py has the
notation). Run this file: it shows the example with what is really told. Look whether the place and the
words are right, put that into the page, and `make docs`.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.errors import Fault, Faulty
from proxy.snapshot import load_snapshot
from tests.faults import examples
from tests.faults.messages import PASSED_ON, scan, unlooked_at
from tests.harness.issuer import Issuer
from tests.test_docs import ROOT, generate

PAGES = {
    "files": ("snapshot.py",),
    "lines": ("policy/syntax.py",),
    "rules": (
        "policy/source.py",
        "policy/reading.py",
        "policy/grammar.py",
        "policy/meeting.py",
        "policy/differencing.py",
    ),
    "conditions": ("policy/conditions/*.py",),
    "treatments": ("treatments/*.py",),
    "people": ("policy/people.py",),
    "yaml": ("documents/*.py",),
    "reports": ("catalogue/*.py", "addresses.py", "client_tls.py"),
    "subjects": ("identity/*.py",),
    "limits": ("policy/limits.py",),
    "tests": ("review/specification.py",),
}
"""Page -> the modules whose messages it lists."""
MODEL_MESSAGES = {"is not the shipped model", "is missing"}
"""Messages about model.conf, which policy/source.py makes and the page of the files lists."""

GENERATE = generate()
ROWS = [row for page in PAGES for row in GENERATE.told(page)]
EXAMPLES = [
    example for row in ROWS for example in examples.examples(row.page, row.message, row.text)
]


def pattern(message: str) -> re.Pattern[str]:
    return re.compile(re.escape(message).replace("…", ".+") + r"\Z", re.DOTALL)


def test_every_message_of_the_code_is_in_the_table_and_no_row_is_dead():
    """A page lists the messages of its modules, no more and no less; no message hides from the scan."""
    assert not unlooked_at()
    found = scan()
    assert not found.unread, "a message must stand in the call that makes the fault"
    assert {(m, f) for m, functions in PASSED_ON.items() for f in functions} == found.passed_on
    for page, modules in PAGES.items():
        made = {
            message.replace("……", "…")
            for message, places in found.templates.items()
            if any(fnmatch(place.split(":")[0], m) for place in places for m in modules)
        }
        if page == "files":
            made |= MODEL_MESSAGES
        elif page == "rules":
            made -= MODEL_MESSAGES
        listed = [row.message for row in ROWS if row.page == page]
        assert set(listed) == made and len(listed) == len(made)


def test_every_message_has_an_example_or_a_reason_for_having_none():
    """Each row says what to do, and shows it or says why nobody can."""
    shown = {(example.page, example.message) for example in EXAMPLES}
    for row in ROWS:
        assert row.advice.endswith((".", ":")), row.message
        without = row.text.startswith("No example: ")
        assert without != ((row.page, row.message) in shown), row.message
    assert len(shown) > 180


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "policies"
    examples.lay_out(folder)
    (folder / "jwks.json").write_text(Issuer().jwks)
    return folder


def faults_of(folder, *, served: bool = False) -> list[Fault]:
    """What `policy check` tells of a folder, or the server, which opens what the files refer to."""
    if served:
        with pytest.raises(Faulty) as caught:
            load_snapshot(folder, {"STORE_TOKEN": "s3cret"})
        return list(caught.value.faults)
    result = CliRunner().invoke(main, ["policy", "check", str(folder), "--json"])
    assert result.exit_code in (0, 2), result.output
    told = json.loads(result.output)["errors"]
    assert bool(told) == (result.exit_code == 2)
    return [Fault(**each) for each in told]


def test_the_good_folder_is_good(folder):
    """What the examples change has no fault and no warning, for the server neither."""
    result = CliRunner().invoke(main, ["policy", "check", str(folder), "--strict"])
    assert result.exit_code == 0, result.output
    load_snapshot(folder, {"STORE_TOKEN": "s3cret"})


@pytest.mark.parametrize(
    "example", [pytest.param(each, id=f"{each.page}-{each.message}") for each in EXAMPLES]
)
def test_each_example_is_told_as_it_says(example, folder):
    """The program tells exactly what the page says, in exactly that place, and what to write instead."""
    places = examples.apply(example, folder)
    faults = faults_of(folder, served=example.served)
    assert example.text == examples.told(example, places, faults)
    assert all(fault.hint for fault in faults), "say what to write"
    fitting = [
        max((row.message for row in ROWS if pattern(row.message).match(fault.message)), key=weight)
        for fault in faults
    ]
    assert example.message in fitting


def weight(message: str) -> int:
    """How much of a message is fixed: the row with the most is the one that a message belongs to."""
    return len(message.replace("…", ""))


def test_the_page_of_faults_is_the_generated_one():
    """docs/faults.md is what `make docs` makes, and each of its links leads to a heading."""
    page = (ROOT / "docs/faults.md").read_text("utf-8")
    assert GENERATE.faults() == page
    assert set(GENERATE.FAULT_PAGES) == set(PAGES) == {p.stem for p in examples.PAGES.glob("*.md")}
    assert page.count("](faults/") == len(ROWS) + 1
