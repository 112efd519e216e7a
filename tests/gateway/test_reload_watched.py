"""The policy in force follows its folder by itself, on record, and only ever whole."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.access import AccessEvent
from proxy.audit import Reader
from proxy.cli import main
from proxy.errors import LogUnavailable
from proxy.snapshot import read_folder, version_of
from proxy.versions import Versions
from tests.gateway.reloading import follows, in_force, loads, soon
from tests.harness import aside, sales
from tests.harness.issuer import Issuer
from tests.harness.proxy import stage

PATH = "/sales/daily.csv"


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


def test_a_changed_file_is_taken_by_itself(world):
    """Whoever saves a file needs to do nothing more; the load is on record and follows the one before."""
    _, proxy = world
    first = in_force(proxy)
    proxy.home.write("policy.csv", sales.RULES + "# more\n")
    assert follows(proxy)
    one, two = loads(proxy)
    assert (one.step, one.policy, one.previous) == ("policy-loaded", first, "")
    assert (two.step, two.policy, two.previous) == ("policy-loaded", in_force(proxy), first)


def test_a_misnamed_file_is_noticed_by_itself_and_so_is_its_end(world):
    """A deny that is saved as `lockdowns.csv` is not lost in silence; once it is renamed it counts."""
    _, proxy = world
    first = in_force(proxy)
    proxy.home.write("lockdowns.csv", "p, anyone, sales/*, read, true, deny\n")
    assert soon(lambda: proxy.app.policy.refused is not None)
    assert "did you mean `lockdown.csv`?" in proxy.app.policy.refused.why
    assert in_force(proxy) == first
    (proxy.home.policies / "lockdowns.csv").rename(proxy.home.policies / "lockdown.csv")
    assert follows(proxy) and in_force(proxy) != first
    assert soon(lambda: proxy.app.policy.refused is None)


def test_every_version_in_force_is_kept(world):
    """What was in force can be read to the byte, under its hash."""
    _, proxy = world
    seen = {in_force(proxy): read_folder(proxy.home.policies)}
    for number in range(3):
        proxy.home.write("policy.csv", sales.RULES + f"# {number}\n")
        assert follows(proxy)
        seen[in_force(proxy)] = read_folder(proxy.home.policies)
    kept = Versions.beside(proxy.home.folder / "access.db")
    assert set(kept.all()) == set(seen)
    assert all(kept.files(version) == files for version, files in seen.items())


def test_a_refused_policy_is_on_record_and_says_nothing_of_its_content(world, caplog):
    """The number of faults and where the first one is, once; and the policy that stays."""
    _, proxy = world
    before = in_force(proxy)
    proxy.home.write("policy.csv", sales.RULES + "p, user:canary, sales/daily\nq\n")
    assert soon(lambda: len(loads(proxy)) == 2)
    time.sleep(1.5)  # it is looked at again meanwhile
    _, refused = loads(proxy)
    line = sales.RULES.count("\n") + 1
    assert (refused.step, refused.policy, refused.previous) == ("policy-refused", "", before)
    assert (refused.cause, refused.count, refused.lines) == ("faulty", 2, (f"policy.csv:{line}",))
    assert b"canary" not in aside.content([proxy.home.folder / "access.db"])
    assert in_force(proxy) == before and proxy.app.policy.refused is not None
    assert caplog.text.count("policy not taken") == 1
    proxy.home.write("policy.csv", sales.RULES)
    assert soon(lambda: proxy.app.policy.refused is None)


def test_the_record_comes_before_the_policy(world, monkeypatch):
    """PROMISE 2: a policy whose load cannot be recorded is not in force, until it can be."""
    _, proxy = world
    before, log, working = in_force(proxy), proxy.app.policy._log, []

    async def append(event: AccessEvent, *, principal: str = "") -> object:
        if not working:
            raise LogUnavailable("full")
        assert in_force(proxy) == before
        return await real(event, principal=principal)

    real = log.append
    monkeypatch.setattr(log, "append", append)
    monkeypatch.setattr("proxy.reload._AGAIN_SECONDS", 0.5)
    proxy.home.write("policy.csv", sales.RULES + "# more\n")
    assert soon(lambda: proxy.app.policy.refused)
    assert in_force(proxy) == before and proxy.app.policy.refused.cause == "not-recorded"
    working.append(True)
    assert follows(proxy) and proxy.app.policy.refused is None
    assert loads(proxy)[-1].policy == in_force(proxy)


def test_a_version_that_cannot_be_kept_is_not_in_force(world):
    """A folder of versions that takes nothing leaves the last good policy; the refusal is on record."""
    _, proxy = world
    before = in_force(proxy)
    kept = proxy.home.folder / "access-policies"
    shutil.rmtree(kept)
    kept.write_text("in the way")
    proxy.home.write("policy.csv", sales.RULES + "# more\n")
    assert soon(lambda: loads(proxy)[-1].cause == "not-kept")
    assert in_force(proxy) == before


@pytest.mark.parametrize("name", ["jwks.json", "store-token"])
def test_files_that_policy_files_name_are_followed_too(tmp_path, name):
    """Keys that are rotated and credentials that are renewed are taken without a signal."""
    reports = sales.REPORTS.replace(
        "loopback: true", "loopback: true, credential: 'file:../store-token'"
    )
    assert reports != sales.REPORTS
    (tmp_path / "store-token").write_text("first")
    with stage(tmp_path, reports=reports, rules=sales.RULES) as (_, proxy):
        before, version = proxy.app.policy.snapshot, in_force(proxy)
        if name == "jwks.json":
            proxy.home.write(name, Issuer().jwks)
        else:
            (tmp_path / name).write_text("second")
        assert soon(lambda: proxy.app.policy.snapshot is not before)
        assert in_force(proxy) == version
        assert loads(proxy)[-1].previous == loads(proxy)[-1].policy == version


def as_config_map(folder: Path) -> Callable[[dict[str, bytes]], None]:
    """Lay `folder` out as a kubelet does; gives what publishes other contents, in one rename."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()

    def publish(files: dict[str, bytes]) -> None:
        stamped = folder / f"..{time.monotonic_ns()}"
        stamped.mkdir()
        for name, content in files.items():
            (stamped / name).write_bytes(content)
        old = (folder / "..data").resolve() if (folder / "..data").is_symlink() else None
        (folder / "..data_tmp").symlink_to(stamped.name)
        (folder / "..data_tmp").rename(folder / "..data")
        if old is not None:
            shutil.rmtree(old)

    publish(files)
    for name in files:
        (folder / name).symlink_to(f"..data/{name}")
    return publish


def test_a_config_map_that_is_flipped_is_taken_whole(world):
    """D35: Kubernetes renames one link, `..data`; no version but those published is ever in force."""
    _, proxy = world
    publish = as_config_map(proxy.home.policies)
    files = {p.name: p.read_bytes() for p in proxy.home.policies.iterdir() if p.is_file()}
    policies = {name: files[name] for name in files if name != "jwks.json"}
    published = {version_of(policies)}
    for number in range(10):
        extra = f"# {number}\n".encode()
        files |= {name: policies[name] + extra for name in ("policy.csv", "reports.yaml")}
        published.add(version_of(policies | {n: files[n] for n in policies}))
        publish(files)
        time.sleep(0.03 * (number % 3))
    assert follows(proxy)
    assert {event.policy for event in loads(proxy) if event.policy} <= published
    assert not [event for event in loads(proxy) if event.step == "policy-refused"]


def test_a_folder_behind_a_link_that_is_flipped_is_followed(tmp_path):
    """`policies` may itself be a link, to one checkout and then another."""
    with stage(tmp_path / "a", reports=sales.REPORTS, rules=sales.RULES) as (_, proxy):
        real = proxy.home.policies.rename(tmp_path / "one")
        proxy.home.policies.symlink_to(real)
        shutil.copytree(real, tmp_path / "two")
        (tmp_path / "two" / "policy.csv").write_text(sales.RULES + "# two\n")
        (tmp_path / "next").symlink_to(tmp_path / "two")
        (tmp_path / "next").rename(proxy.home.policies)
        assert follows(proxy)
        (tmp_path / "two" / "policy.csv").write_text(sales.RULES + "# two, again\n")
        assert follows(proxy)


def test_a_folder_that_goes_and_comes_back_is_followed(world):
    """While there is no folder the last good policy stays; a new one in its place is taken."""
    _, proxy = world
    before = in_force(proxy)
    away = proxy.home.policies.rename(proxy.home.folder / "away")
    assert soon(lambda: proxy.app.policy.refused)
    assert in_force(proxy) == before
    (away / "policy.csv").write_text(sales.RULES + "# back\n")
    away.rename(proxy.home.policies)
    assert follows(proxy)
    proxy.home.write("policy.csv", sales.RULES + "# and again\n")
    assert follows(proxy)


def test_who_wrote_the_policy_is_on_record_where_git_knows(world):
    """Files of a commit to the byte have its author, by an id that the directory can forget."""
    _, proxy = world
    folder = proxy.home.policies
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x", "--no-gpg-sign"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)
    proxy.home.write("policy.csv", sales.RULES + "# not committed\n")
    assert follows(proxy)
    assert loads(proxy)[-1].subject == loads(proxy)[-1].commit == ""
    proxy.home.write("policy.csv", sales.RULES)
    assert follows(proxy)
    assert len(loads(proxy)[-1].subject) == 32 and len(loads(proxy)[-1].commit) == 40

    def author() -> str:
        with Reader(proxy.home.folder / "access.db") as reader:
            return reader.principal(loads(proxy)[-1].subject)

    assert soon(lambda: author() == "author:Ada <ada@example.com>")
    # A refused one has the author of the commit that it is from, too.
    proxy.home.write("policy.csv", sales.RULES + "q, y\n")
    assert soon(lambda: loads(proxy)[-1].step == "policy-refused")
    assert loads(proxy)[-1].subject == loads(proxy)[-1].commit == ""
    subprocess.run(
        ["git", *identity, "commit", "-q", "-am", "bad", "--no-gpg-sign"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    assert not proxy.reload()
    assert len(loads(proxy)[-1].commit) == 40
    assert soon(lambda: author() == "author:Ada <ada@example.com>")
    told = CliRunner().invoke(main, ["policy", "status", "-c", str(proxy.home.settings)]).output
    assert "by Ada <ada@example.com>, commit " in told
