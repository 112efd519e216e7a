"""What the documentation says is what the program does: generated pages, named tables, tried commands."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from benchmarks.__main__ import BENCHMARKS
from proxy import config, documents
from proxy.catalogue import Catalogue
from proxy.cli import main
from proxy.errors import Faulty
from proxy.gateway.health import Readiness
from proxy.identity import Identities
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.metrics.listener import TABLE as OF_LISTENER
from proxy.metrics.table import TABLE as METRICS
from proxy.metrics.workers import TABLE as OF_WORKERS
from proxy.policy.conditions.check import FUNCTIONS
from proxy.policy.limits import LimitsFile
from proxy.policy.lines import Action
from proxy.policy.people import read_people
from proxy.policy.rules import MODEL
from proxy.policy.source import load
from proxy.reasons import Reason
from proxy.report import By, Direction, Operator
from proxy.review.specification import SpecificationFile
from proxy.settings import Settings
from proxy.subject import AttributeType, Source
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


def test_every_key_of_the_settings_is_on_the_page():
    """Of all that counterfoil.yaml may hold, as msgspec sees it."""
    _, components = msgspec.json.schema_components([Settings])
    for name, schema in components.items():
        described = " ".join(schema["description"].split())
        section = PAGE.partition(f"\n{described}\n\n| key ")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert rows == [*schema["properties"]], name


def test_benchmarks_that_are_named_are_there():
    """In the Makefile and on the pages."""
    pages = [
        ROOT / "Makefile",
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        *ROOT.glob("docs/*.md"),
    ]
    named = {
        word.strip("`.,;)")
        for page in pages
        for word in re.findall(r"make bench ARGS=(\S+)", page.read_text("utf-8"))
    }
    assert named and named <= BENCHMARKS.keys()


def test_the_page_of_limits_is_the_generated_one():
    """docs/limits.md is what `make docs` makes, is linked to, and its example is one that is taken."""
    page = (ROOT / "docs/limits.md").read_text("utf-8")
    assert generate().limits_page() == page and "(docs/limits.md)" in README
    example = re.search(r"```yaml\n(limits:.*?)```", page, re.DOTALL)
    assert example is not None
    assert (
        len(documents.load(example[1].encode(), LimitsFile, file="limits.yaml").value.limits) == 4
    )


def test_the_page_of_treatments_is_the_generated_one():
    """docs/treatments.md is what `make docs` makes, shows each treatment, and is linked to."""
    page = (ROOT / "docs/treatments.md").read_text("utf-8")
    assert generate().treatments_page() == page
    assert re.findall(r"^## `(\w+)`$", page, re.MULTILINE) == [*TABLE]
    assert "(docs/treatments.md)" in README and "(treatments.md)" in PAGE


@pytest.mark.parametrize(
    "word",
    [
        *TABLE,
        *Type,
        *Action,
        *Operator,
        *By,
        *Direction,
        *Source,
        *(r.slug for r in Reason),
        *FUNCTIONS,
    ],
)
def test_the_page_names(word):
    """Every treatment, type, action, operator, reason and function is on the page."""
    assert re.search(rf"\b{re.escape(str(word))}\b", PAGE)


def test_each_row_of_a_table_says_something_in_each_cell():
    """No key, treatment, parameter or reason is listed without a word on what it is."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    for row in rows:
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert all(cell.strip() for cell in cells), row


def blocks(page, *languages):
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    return [body for language, body in fenced if language in languages]


def policy_of(text, catalogue, attributes):
    return load(
        {"model.conf": MODEL.encode(), "policy.csv": text.encode()},
        reports=catalogue.reports,
        classes=catalogue.classes,
        purposes=catalogue.purposes,
        attributes=attributes,
        version="0" * 64,
    )


def test_the_readme_s_policy_is_one():
    """The policy that the README shows loads without a fault."""
    (block,) = blocks(README, "csv")
    rules = "".join(f"{line.strip()}\n" for line in block.splitlines())
    catalogue = Catalogue.load(REPORTS.encode(), file="reports.yaml", environment={}, folder=None)
    policy_of(rules, catalogue, {"stores": AttributeType(type=Type.TEXT, many=True)})


def test_the_page_s_examples_are_a_configuration(tmp_path):
    """The page's files load without a fault, and fit one another."""
    settings, reports, stores, commands, parameters, variants, subjects, tests, *operations = (
        blocks(PAGE, "yaml")
    )
    metrics, scrape, traces = operations
    people, rules, _, reveals, controls = blocks(PAGE, "csv")
    (tmp_path / "counterfoil.yaml").write_text(settings + commands + metrics + traces)
    loaded = config.load(tmp_path / "counterfoil.yaml", {}).settings
    assert loaded.policies == "policies"
    (job,) = yaml.safe_load(scrape)["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{loaded.metrics.host}:{loaded.metrics.port}"]}]
    assert loaded.metrics.token == f"file:{job['authorization']['credentials_file']}"
    catalogue = Catalogue.load(
        reports.encode(),
        file="reports.yaml",
        environment={"SALES_STORE_TOKEN": "s3cret"},
        folder=None,
    )
    (command,) = loaded.commands
    assert f"command:{command}" in stores
    shown = Catalogue.load(
        f"{stores}reports: {{}}\n".encode(), file="reports.yaml", environment={}, folder=None
    )
    assert shown.stores.keys() == {"files", "bi", "lake"}
    before, _, after = reports.partition("    parameters:\n")
    fields = after[after.index("    fields:\n") :] + "      city: {type: text, class: public}\n"
    more = "".join(f"    {line}\n" for line in parameters.splitlines())
    before = before.replace("    variants:\n", f"    variants:\n      {variants}")
    Catalogue.load(
        (before + more + fields).encode(),
        file="reports.yaml",
        environment={"SALES_STORE_TOKEN": "s3cret"},
        folder=None,
    )
    identities = Identities.load(subjects.encode(), file="subjects.yaml", folder=None)
    policy_of(rules + reveals + controls, catalogue, identities.attributes)
    assert len(read_people(people.encode(), identities.realms)) == 3
    expected = documents.load(tests.encode(), SpecificationFile, file="tests.yaml").value.tests
    assert {each.on for each in expected} <= set(catalogue.reports)


IDENTITY = (ROOT / "docs/identity.md").read_text("utf-8")


def test_the_page_of_identity_providers_shows_what_loads(tmp_path):
    """Each example of subjects.yaml loads; the first is as short as is said, the catalogue's fits its own."""
    first, audiences, reports, several, opaque = blocks(IDENTITY, "yaml")
    assert len(first.splitlines()) == 5
    (tmp_path / "introspection-secret").write_text("s3cret")

    def read(text):
        return Identities.load(text.encode(), file="subjects.yaml", folder=tmp_path, environment={})

    assert [issuer.issuer for issuer in read(first).issuers] == ["https://id.example.com"]
    named = read(audiences).audiences
    Catalogue.load(
        reports.encode(), file="reports.yaml", environment={}, folder=None, audiences=named
    )
    assert [issuer.prefix for issuer in read(several).issuers] == ["", "partner/"]
    assert read(opaque).clients[0].secret == "s3cret"


def test_the_page_of_identity_providers_names_causes_that_there_are():
    """Each cause of its table is a slug that the code refuses with."""
    code = "".join(
        path.read_text("utf-8")
        for path in (*ROOT.glob("proxy/identity/*.py"), ROOT / "proxy/policy/decide.py")
    )
    table = IDENTITY[
        IDENTITY.index("| `cause` on record") : IDENTITY.index("Providers are asked over")
    ]
    first = "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))
    causes = re.findall(r"`([a-z]+(?:-[a-z]+)+)`", first)
    assert len(causes) > 10
    assert not [cause for cause in causes if f'"{cause}"' not in code]


def test_the_page_s_lines_on_large_groups_are_a_policy():
    """They load on a report that has their fields, and not where it has a parameter that selects rows."""
    _, _, lines, _, _ = blocks(PAGE, "csv")
    lines += "p, role:researcher, health/visits, read, true, allow\n"
    names = ("date", "region", "city", "diagnosis", "cost")
    report = {
        "title": "Visits",
        "store": "main",
        "variants": [{"path": "/visits.csv", "format": "csv"}],
        "fields": {name: {"type": "text", "class": "personal"} for name in names},
    }
    stores = {"main": {"url": "https://store.invalid"}}

    def read(**more):
        declared = {"stores": stores, "reports": {"health/visits": {**report, **more}}}
        text = yaml.safe_dump(declared).encode()
        catalogue = Catalogue.load(text, file="reports.yaml", environment={}, folder=None)
        return policy_of(lines, catalogue, {})

    read(parameters={"sort": {"by": "order", "fields": ["city"]}})
    with pytest.raises(Faulty, match="`city` of `health/visits` selects rows"):
        read(parameters={"city": {"type": "text", "field": "city"}})


def test_the_page_s_queries_ask_for_metrics_that_there_are():
    """Each query of the page names a metric, and labels, of the table."""
    (queries,) = (block for block in blocks(PAGE, "") if "counterfoil_" in block)
    known = {row.name: row for row in (*METRICS, *OF_LISTENER, *OF_WORKERS)}
    for line in queries.splitlines():
        (name,) = re.findall(r"counterfoil_[a-z_]+", line)
        row = known[name.removesuffix("_bucket")]
        assert set(re.findall(r"by \((\w+)\)|(\w+)=", line)) <= {
            pair for label in row.labels for pair in ((label, ""), ("", label))
        }


def test_the_page_s_readiness_is_one():
    """What the page shows of `/-/ready` is what the server's type allows."""
    (shown,) = blocks(PAGE, "json")
    assert msgspec.json.decode(shown, type=Readiness, strict=True).policy == "stale"


def test_the_page_s_keyring_opens(tmp_path):
    """The commands that make a keyring make one that the settings open."""
    (commands,) = blocks(PAGE, "sh")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    settings, *_ = blocks(PAGE, "yaml")
    (tmp_path / "counterfoil.yaml").write_text(settings)
    made = subprocess.run(
        ["sh", "-ec", f"{commands}\nprintf %s $COUNTERFOIL_KEK"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, _, key = made.stdout.partition("\n")
    kek = kek_of("env:COUNTERFOIL_KEK", {"COUNTERFOIL_KEK": key})
    assert told.startswith(keyring_file.read(tmp_path / "keyring.json", kek).sealing)


def test_the_page_says_what_is_not_in_this_version():
    """What is refused because it is not there yet is told, with the cause that the log has for it."""
    section = PAGE.partition("## Not in this version")[2]
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "proxy").rglob("*.py"))
    causes = re.findall(r"cause `([\w-]+)`", section)
    assert causes == ["bound-token"]
    assert all(f'("{cause}"' in sources for cause in causes)


@pytest.mark.parametrize("folder", [".", "gateway", "policy", "review"])
def test_each_module_has_its_room(folder):
    """ARCHITECTURE.md names the modules that there are."""
    found = (ROOT / "proxy" / folder).iterdir()
    names = {f"{path.name}/" if (path / "__init__.py").exists() else path.name for path in found}
    assert {name for name in names if re.fullmatch(r"[a-z]\w*(\.py|/)", name)} <= rooms()


def test_there_is_no_room_without_its_module():
    """ARCHITECTURE.md names no module that there is not."""
    paths = (ROOT / "proxy").rglob("*")
    assert rooms() <= {f"{path.name}/" if path.is_dir() else path.name for path in paths} | {
        "proxy/"
    }


def rooms():
    """The modules that ARCHITECTURE.md lists."""
    (house,) = blocks((ROOT / "ARCHITECTURE.md").read_text("utf-8"), "")
    return set(re.findall(r"\b\w+(?:\.py\b|/)", house))


def commands():
    """The commands in the README's blocks and between its words."""
    text = "\n".join(
        [*blocks(README, "sh", ""), *re.findall(r"`((?:counterfoil|make) [^`\n]*)`", README)]
    )
    for line in re.findall(r"\b((?:counterfoil|make) [^)|\n]*)", text):
        yield pytest.param(shlex.split(line), id=line[:40])


def test_the_readme_has_commands():
    """The README's commands are found: what starts the demo, asks, reads the log and serves."""
    found = {" ".join(param.values[0][:2]) for param in commands()}
    assert found >= {
        "make run",
        "make test",
        "counterfoil demo",
        "counterfoil log",
        "counterfoil serve",
    }


@pytest.mark.parametrize("words", list(commands()))
def test_the_readme_s_commands_exist(words):
    """Each command of the README is a target of the Makefile or a verb with these options."""
    tool, *rest = words
    if tool == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), rest.pop(0))
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
