"""What the documentation says is what the program does: generated pages, named tables, tried commands."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from proxy.catalogue import Catalogue
from proxy.cli import main
from proxy.plan import Reason
from proxy.policy import load
from proxy.policy.conditions.check import FUNCTIONS
from proxy.policy.lines import Action
from proxy.policy.rules import MODEL
from proxy.report import Operator
from proxy.subject import AttributeType
from proxy.treatments import TABLE
from proxy.values import Type

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/configuration.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
REPORTS = """\
stores:
  main: {url: "https://reports.example.com"}
reports:
  sales/store-daily:
    title: Daily sales
    store: main
    variants: [{path: /sales/store-daily.csv, format: csv}]
    fields:
      store_id: {type: text, class: public}
      store_name: {type: text, class: internal}
      net_sales: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
"""


def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_generated_one():
    """docs/configuration.md is what `make docs` makes."""
    assert generate().page() == PAGE


@pytest.mark.parametrize(
    "word", [*TABLE, *Type, *Action, *Operator, *(r.slug for r in Reason), *FUNCTIONS]
)
def test_the_page_names(word):
    """Every treatment, type, action, operator, reason and function is on the page."""
    assert re.search(rf"\b{re.escape(str(word))}\b", PAGE)


def test_no_key_is_without_a_default_or_value():
    """Each row of a table of keys says what the value is."""
    for line in PAGE.splitlines():
        if line.startswith("| `") and line.count("|") == 5:
            assert all(cell.strip() for cell in line.split("|")[1:3]), line


def test_the_readme_s_policy_is_one():
    """The policy that the README shows loads without a fault."""
    block = re.search(r"```csv\n(.*?)```", README, re.DOTALL)[1]
    rules = "".join(f"{line.strip()}\n" for line in block.splitlines())
    catalogue = Catalogue.load(REPORTS.encode(), file="reports.yaml", environment={}, folder=None)
    load(
        {"model.conf": MODEL.encode(), "policy.csv": rules.encode()},
        reports=catalogue.reports,
        classes=catalogue.classes,
        purposes=catalogue.purposes,
        attributes={"stores": AttributeType(type=Type.TEXT, many=True)},
        version="0" * 64,
    )


def commands():
    for line in re.findall(r"^ *(?:\.venv/bin/)?(counterfoil .*|make .*)$", README, re.MULTILINE):
        yield pytest.param(shlex.split(line), id=line[:40])


@pytest.mark.parametrize("words", list(commands()))
def test_the_readme_s_commands_exist(words):
    """Each command of the README is a target of the Makefile or a verb with these options."""
    tool, *rest = words
    if tool == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
