"""D32 to D38 at a running proxy: whatever the files become, nobody is given more, and somebody is told."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import durable
from proxy.snapshot import read_folder, version_of
from tests.faults.damage import damage_to
from tests.gateway.reloading import in_force, loads, soon, status
from tests.harness import sales
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page

RULES = sales.RULES + "p,  group:interns, sales/*, read, true, deny\n"
ROWS = sales.rows(60)
TARGETS = ("/sales/daily.csv", "/sales/daily.json", "/sales/audited.csv", "/sales/secret.csv")
EVERYBODY = (
    ("alice", {"groups": ("analysts",)}),
    ("olga", {"groups": ("owners", "analysts"), "stores": ["3", "4"]}),
    ("ines", {"groups": ("interns", "analysts")}),
    ("nora", {}),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    with stage(folder, reports=sales.REPORTS, rules=RULES) as (store, proxy):
        for path in ("/sales/daily.csv", "/sales/daily.json"):
            as_json = path.endswith("json")
            body = sales.as_json(ROWS) if as_json else sales.as_csv(ROWS)
            kind = "application/json" if as_json else "text/csv"
            store.pages[path] = Page(body, content_type=kind)
        proxy.home.write("people.csv", "subject\nuser:alice\n")
        proxy.home.write(
            "tests.yaml", "tests: [{as: ines, groups: [interns], on: sales/daily, denied: true}]\n"
        )
        proxy.home.write("lockdown.csv", "p, anyone, sales/secret, read, true, deny\n")
        assert proxy.reload()
        tokens = [proxy.issuer.token(name, lifetime=36_000, **claims) for name, claims in EVERYBODY]
        yield World(proxy, tokens)


class World:
    """A running proxy, and what everybody gets of it while its folder is good."""

    def __init__(self, proxy: Proxy, tokens: list[str]) -> None:
        self.proxy = proxy
        self._tokens = tokens
        self.good = self.answers()

    def answers(self) -> list[tuple[object, ...]]:
        """All that everybody gets of everything, but for dates and events' ids."""
        return [
            self.proxy.get(target, token=token, headers={"Counterfoil-Purpose": "audit"}).seen()
            for token in self._tokens
            for target in TARGETS
        ]


def test_the_requesters_get_different_answers(world):
    """What is compared below tells a wider answer: somebody sees more, somebody less, somebody nothing."""
    statuses = [answer[0] for answer in world.good]
    assert statuses == [200, 200, 200, 404] * 2 + [404] * 8
    bodies = [answer[2] for answer in world.good]
    assert bodies[0] != bodies[4] and bodies[1] != bodies[5] and bodies[0] != bodies[12]


def ready(proxy: Proxy) -> bytes:
    return proxy.get("/-/ready").body


@contextmanager
def refused(world, name: str) -> Iterator[None]:
    """In its body the folder is damaged; it is not taken, everybody gets what they got, and it is told.

    An event names the file, `/-/ready` and the exit status of `policy status` say that the policy is
    stale, and with the file as it was all of that is over.
    """
    proxy = world.proxy
    folder = proxy.home.policies
    content = (folder / name).read_bytes() if (folder / name).exists() else None
    version, known = in_force(proxy), len(loads(proxy))
    assert b"stale" not in ready(proxy) and status(proxy)[0] == 0
    yield
    try:
        assert not proxy.reload()
        assert world.answers() == world.good
        assert in_force(proxy) == version
        told = loads(proxy)[known:]
        assert {(event.step, event.cause) for event in told} == {("policy-refused", "faulty")}
        assert all(event.count and event.previous == version for event in told)
        assert told[-1].lines[0].partition(":")[0] == name
        assert b"stale" in ready(proxy) and status(proxy)[0] == 1
    finally:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
    assert proxy.reload()
    assert in_force(proxy) == version


def more(line: str) -> Callable[[bytes], bytes]:
    return lambda content: content + line.encode() + b"\n"


def other(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


BROKEN = [
    ("D32 short line", "policy.csv", other("act,  true, allow", "act")),
    ("D32 long line", "policy.csv", more("p, user:nora, sales/*, read, true, allow, allow")),
    ("D32 unbalanced bracket", "policy.csv", more("p, user:nora, sales/*, read, ip_in(env.ip, '0.0.0.0/0', allow")),
    ("D32 unbalanced quote", "policy.csv", other("['audit']", "['audit]")),
    ("D32 a line of a megabyte", "policy.csv", more("# " + "x" * (1 << 20))),
    ("D33 unknown section", "model.conf", more("[policy_effect]\ne = some(where (p.eft == allow))")),
    ("D33 unknown directive", "policy.csv", more("include other.csv")),
    ("D33 unknown line type", "policy.csv", more("p3, anyone, sales/*, read, true, deny")),
    ("D33 effect in another case", "policy.csv", other("true, deny", "true, Deny")),
    ("D33 line type in another case", "policy.csv", other("p,  group:interns", "P,  group:interns")),
    ("D33 effect in quotes", "policy.csv", other("true, deny", 'true, "deny"')),
    ("D33 effect with a comment", "policy.csv", other("true, deny", "true, deny # for now")),
    ("D33 effect in other letters", "policy.csv", other("true, deny", "true, dеny")),
    ("D33 kind of name in other letters", "policy.csv", other("group:interns", "grоup:interns")),
    ("D33 report in another case", "policy.csv", more("p, anyone, Sales/daily, read, true, deny")),
    ("D33 indented comment", "policy.csv", other("p,  group:interns", "  # p,  group:interns")),
    ("D33 limits of another version", "limits.yaml", lambda _: b"rows: {day: 1}\n"),
    ("D34 limits emptied", "limits.yaml", lambda _: b""),
    ("D34 cut within a line", "policy.csv", lambda content: content[:-9]),
    ("D34 emptied", "policy.csv", lambda _: b""),
    ("D34 lockdown cut", "lockdown.csv", lambda content: content[:-7]),
    ("D34 people cut", "people.csv", lambda content: content[:-1]),
    ("D36 star within", "policy.csv", more("p, anyone, sales/*/public, read, true, allow")),
    ("D36 unanchored", "policy.csv", more("p, anyone, sales/d*, read, true, allow")),
    ("D36 point for any letter", "policy.csv", more("p, anyone, sales/d.ily, read, true, allow")),
    ("D36 prefix without its slash", "policy.csv", more("p, anyone, sale/*, read, true, allow")),
    ("D37 pattern that never ends", "policy.csv", more(f"p, anyone, sales/*, read, matches('{'a' * 28}!', '(a+)+$'), allow")),
    ("D37 pattern for a report", "policy.csv", more("p, anyone, (a+)+$, read, true, allow")),
    ("D38 eval", "policy.csv", more("p, anyone, sales/*, read, eval('True'), allow")),
    ("D38 attribute", "policy.csv", more("p, anyone, sales/*, read, sub.__class__ == '', allow")),
    ("D38 call of an attribute", "policy.csv", more("p, anyone, sales/*, read, env.ip.startswith('1'), allow")),
    ("D38 import", "policy.csv", more("p, anyone, sales/*, read, __import__('os'), allow")),
    ("D38 eval in the model", "model.conf", other("truth(", "eval(p.when) && truth(")),
    ("D38 attribute in the model", "model.conf", other("r.action == p.action", "r.sub.__class__ != 1")),
    ("byte order mark", "policy.csv", lambda content: b"\xef\xbb\xbf" + content),
    ("NUL", "policy.csv", more("# \x00")),
    ("UTF-16", "policy.csv", lambda content: content.decode().encode("utf-16")),
    ("carriage returns", "policy.csv", lambda content: content.replace(b"\n", b"\r")),
    ("zero width space in a name", "policy.csv", other("group:interns", "group:interns\u200b")),
    ("alias", "reports.yaml", other("Daily sales", "*title")),
    ("key twice", "reports.yaml", other("    store: main\n", "    store: main\n    store: main\n")),
    ("unknown key", "reports.yaml", other("class: confidential}", "class: confidential, hide: true}")),
    ("class in another case", "reports.yaml", other("class: personal", "class: Personal")),
    ("tab", "reports.yaml", other("    title:", "\ttitle:")),
    ("python object", "reports.yaml", other("Daily sales", "!!python/object/apply:os.getcwd []")),
    ("issuer gone", "subjects.yaml", lambda _: b"issuers: []\n"),
    ("algorithm none", "subjects.yaml", other("[ES256]", "[none]")),
    ("people for nobody", "people.csv", more("user:alice")),
    ("another group", "people.csv", lambda _: b"subject, groups\nuser:nora, group:owners\n"),
    ("contradicted by its tests", "tests.yaml", other("denied: true", "denied: false")),
    ("tests cut", "tests.yaml", lambda content: content[:-3]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"), [pytest.param(*rest, id=case) for case, *rest in BROKEN]
)
def test_a_file_that_is_not_understood_gives_nobody_more(world, name, change):
    """PROMISE 3, D32 to D38: byte for byte the answers of the last good policy, quickly, and an alarm."""
    path = world.proxy.home.policies / name
    with refused(world, name):
        path.write_bytes(change(path.read_bytes() if path.exists() else b""))
        began = time.monotonic()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["policy.csv", "lockdown.csv"])
@pytest.mark.parametrize(
    "what", ["fifo", "folder", "socket", "link to itself", "link to nothing", "device"]
)
def test_what_is_no_file_is_not_waited_for(world, name, what):
    """PROMISE 3, D35: what is no regular file in the place of one is refused at once, never read or skipped."""
    path = world.proxy.home.policies / name
    with refused(world, name):
        path.unlink()
        match what:
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "socket":
                listening(path)
            case "link to itself":
                path.symlink_to(name)
            case "link to nothing":
                path.symlink_to("nothing")
            case "device":
                path.symlink_to("/dev/zero")


NAMES = ("policy.csv", "lockdown.csv", "people.csv", "model.conf", "reports.yaml", "subjects.yaml")


def any_damage(world: World, data: st.DataObject) -> None:
    """One file is damaged, in one step: it is taken as it is, or nothing is other than before."""
    proxy, name = world.proxy, data.draw(st.sampled_from(NAMES))
    files = read_folder(proxy.home.policies)
    damaged = data.draw(damage_to(files[name], files))
    if damaged == files[name]:
        return
    version, path = in_force(proxy), proxy.home.policies / name
    if damaged is None:
        path.unlink()
    else:
        durable.write(path, damaged, mode=0o600)
    try:
        if proxy.reload():
            changed = {n: c for n, c in (files | {name: damaged}).items() if c is not None}
            assert in_force(proxy) == version_of(changed) != version
        else:
            assert world.answers() == world.good and in_force(proxy) == version
            assert loads(proxy)[-1].step == "policy-refused" and b"stale" in ready(proxy)
    finally:
        if (
            name == "lockdown.csv" and damaged is not None
        ):  # what it locks down ends by this way alone
            durable.write(path.with_name("policy.csv"), files["policy.csv"] + damaged, mode=0o600)
            proxy.reload()
            durable.write(path, files[name], mode=0o600)
            proxy.reload()
            path, name = path.with_name("policy.csv"), "policy.csv"
        durable.write(path, files[name], mode=0o600)
    assert proxy.reload() and in_force(proxy) == version


@settings(max_examples=25)
@given(st.data())
def test_a_damaged_file_is_taken_as_it_is_or_changes_nothing(world, data):
    """PROMISE 3: after any damage the answers are those of the very files, or of the last good policy."""
    any_damage(world, data)


@pytest.mark.prove
@settings(max_examples=2_000)
@given(st.data())
def test_many_damaged_files_are_taken_as_they_are_or_change_nothing(world, data):
    """As above, many times."""
    any_damage(world, data)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        home = Path.cwd()
        os.chdir(path.parent)  # such an address is short
        try:
            sock.bind(path.name)
        finally:
            os.chdir(home)


@pytest.mark.parametrize("name", ["policy.csv", "reports.yaml", "subjects.yaml", "model.conf"])
def test_a_file_that_is_deleted_is_missed(world, name):
    """PROMISE 3, D35: what every policy needs may not go."""
    with refused(world, name):
        (world.proxy.home.policies / name).unlink()


def test_people_that_are_deleted_are_missed(world):
    """PROMISE 3, D35: people.csv may not go where subjects.yaml takes from it: a deny may hang on what it says."""
    proxy = world.proxy
    subjects, people = (proxy.home.policies / name for name in ("subjects.yaml", "people.csv"))
    before, alone = subjects.read_text(), people.read_text()
    subjects.write_text(
        before.replace("{claim: region, type: text}", "{type: text, source: people}")
    )
    people.write_text("subject, region\nuser:alice, North\n")
    try:
        assert proxy.reload()
        with refused(world, "people.csv"):
            people.unlink()
    finally:
        subjects.write_text(before)
        people.write_text(alone)
        assert proxy.reload()


def test_a_link_that_is_swapped_for_a_broken_file_is_refused(world):
    """PROMISE 3, D35: a file behind a link that is renamed over is taken if it is good, and refused if not."""
    proxy = world.proxy
    folder = proxy.home.policies
    good, bad = folder.parent / "good.csv", folder.parent / "bad.csv"
    good.write_text(RULES)
    bad.write_text(RULES.replace("true, deny", "true, Deny"))
    with refused(world, "policy.csv"):
        (folder / "next").symlink_to(bad)
        (folder / "next").rename(folder / "policy.csv")
    (folder / "next").symlink_to(good)
    (folder / "next").rename(folder / "policy.csv")
    assert proxy.reload() and world.answers() == world.good
    (folder / "policy.csv").unlink()
    (folder / "policy.csv").write_text(RULES)


@pytest.mark.parametrize("keys", ["", "{", '{"keys": []}', "[]", "\ufeff{}"])
def test_keys_that_cannot_be_used_change_nothing(world, keys):
    """PROMISE 3: a key file that is broken takes no key away, trusts no other one, and is told of."""
    proxy = world.proxy
    path, known = proxy.home.policies / "jwks.json", len(loads(proxy))
    content = path.read_text()
    path.write_text(keys)
    try:
        assert not proxy.reload()
        assert world.answers() == world.good and b"stale" in ready(proxy)
        assert loads(proxy)[known].lines[0].startswith("subjects.yaml:")
        code, said = status(proxy)
        assert code == 1 and "(the same)" in said and "the first at subjects.yaml:" in said
    finally:
        path.write_text(content)
    assert proxy.reload() and status(proxy)[0] == 0


def test_the_alarm_comes_by_itself(world, caplog):
    """PROMISE 3: nobody asks for a reload; the watch finds the broken file, and tells of it once."""
    proxy = world.proxy
    with refused(world, "policy.csv"):
        broken = RULES.replace("true, deny", "true, Deny").encode()
        durable.write(proxy.home.policies / "policy.csv", broken, mode=0o600)
        assert soon(lambda: b"stale" in ready(proxy))
        assert caplog.text.count("policy not taken") == 1
        assert "`Deny`" in caplog.text and "write `deny`" in caplog.text


@pytest.mark.parametrize("shut", ["file", "folder"])
def test_what_the_proxy_may_not_read_is_refused(shut):
    """PROMISE 3, D35: a mode that shuts the proxy out is a fault, not an error; the last good policy serves."""
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are shut to others
        folder = Path(made)
        with stage(folder / "home", reports=sales.REPORTS, rules=RULES) as (_, proxy):
            before, path = in_force(proxy), proxy.home.policies
            path = path / "policy.csv" if shut == "file" else path
            mode = path.stat().st_mode
            folder.chmod(0o711)
            path.chmod(0)
            with without_rights():
                taken = proxy.reload()
            path.chmod(mode)
            assert not taken and in_force(proxy) == before
            assert loads(proxy)[-1].cause == "faulty"
            assert "ermission denied" in proxy.app.policy.refused.why
            assert proxy.reload()


@contextmanager
def without_rights() -> Iterator[None]:
    """As somebody else, where the tests run as root: root may read whatever the mode is."""
    user = os.geteuid()
    if user:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
