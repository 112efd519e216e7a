"""A lockdown ends by a command and by nothing else: not by what becomes of its file, not over a restart."""

from __future__ import annotations

import asyncio
import shutil
import threading
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from proxy import watching
from proxy.cli import main
from proxy.errors import CounterfoilError, Faulty
from tests.gateway.changing import RULES, ask, lift_all, lock, token
from tests.gateway.reloading import PATH, follows, in_force, loads, soon, status
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home, running
from tests.harness.store import Page, Store

BY_HAND = "p, anyone, sales/daily, read, true, deny\n"


class World:
    """A home, its store, and a proxy that can be started anew."""

    def __init__(self, folder, background) -> None:
        self.background = background
        self.store = Store(background)
        self.store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
        self.home = Home(folder, reports=sales.REPORTS, rules=RULES, store=self.store.url)
        self.file = self.home.policies / "lockdown.csv"

    def started(self):
        return running(self.home, self.background)


@contextmanager
def made(folder):
    background = Background()
    try:
        world = World(folder / "home", background)
        yield world
        world.store.close()
    finally:
        background.close()


@pytest.fixture
def world(tmp_path):
    with made(tmp_path) as world:
        yield world


def sees(proxy) -> int:
    return proxy.get(PATH, token=token(proxy, "alice", "analysts")).status


def losses(text: str) -> list[str | None]:
    """The file deleted, emptied, and cut at each line that is followed by a rule."""
    lines = text.splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith("p"))
    return [None, *("".join(lines[:kept]) for kept in range(last + 1))]


def put(world, text: str | None) -> None:
    if text is None:
        world.file.unlink()
    else:
        world.file.write_text(text)


def test_no_loss_of_its_file_ends_a_lockdown(world):
    """PROMISE 3, D34, D35: deleted, emptied or cut at any line, it is refused, loudly, and told how to end it."""
    with world.started() as proxy:
        lock(proxy)
        one = lock(proxy)
        before, text = in_force(proxy), world.file.read_text()
        for loss in losses(text):
            put(world, loss)
            known = len(loads(proxy))
            assert not proxy.reload() and in_force(proxy) == before and sees(proxy) == 404
            (told,) = {(event.step, event.cause, event.lines) for event in loads(proxy)[known:]}
            assert told == ("policy-refused", "lockdown-lost", ("lockdown.csv",))
            assert b'"cause":"lockdown-lost"' in proxy.get("/-/ready").body
            code, said = status(proxy)
            assert code == 1 and f"lockdown --lift {one}" in said
            assert f"lockdown --lift {one}" in proxy.app.policy.refused.why
            world.file.write_text(text)
            assert proxy.reload() and status(proxy)[0] == 0
        lift_all(proxy)
        assert sees(proxy) == 200


def test_no_loss_of_its_file_ends_a_lockdown_over_a_restart(world):
    """What was in force is held against the folder at a start too: the server does not come up wider."""
    with world.started() as proxy:
        lock(proxy)
        one = lock(proxy)
    text = world.file.read_text()
    for loss in losses(text):
        put(world, loss)
        with pytest.raises(Faulty, match=f"lockdown --lift {one}"), world.started():
            pass
        world.file.write_text(text)
    with world.started() as proxy:
        assert sees(proxy) == 404
        lift_all(proxy)
    with world.started() as proxy:
        assert sees(proxy) == 200


def test_what_is_lost_is_put_back_from_the_version_in_force(world):
    """The command that the refusal names gives the file as it was, to the byte, with no server running."""
    with world.started() as proxy:
        lock(proxy)
    text = world.file.read_text()
    world.file.unlink()
    words = ["policy", "show", "current", "--file", "lockdown.csv", "-c", str(world.home.settings)]
    assert CliRunner().invoke(main, words).output == text


def test_a_lockdown_whose_file_is_lost_before_anyone_looks_is_missed(world, monkeypatch):
    """The folder is then as it was when it was last read; what is in force is not."""
    looks, real = threading.Event(), watching.look

    async def late(paths):
        await asyncio.to_thread(looks.wait)
        return await real(paths)

    with world.started() as proxy:
        assert soon(
            lambda: proxy.app.policy.outcomes["unchanged"]
        )  # all files are looked at by now
        monkeypatch.setattr(watching, "look", late)
        lock(proxy, "sales/daily")
        world.file.unlink()
        looks.set()
        assert soon(lambda: proxy.app.policy.refused)
        assert proxy.app.policy.refused.cause == "lockdown-lost" and sees(proxy) == 404


@pytest.mark.parametrize("left", [None, "", 40])
def test_a_lockdown_whose_file_is_lost_is_lifted_by_its_command(world, left):
    """Also then lifting it ends it, and another lockdown brings the first one's lines back."""
    with world.started() as proxy:
        one = lock(proxy, "sales/daily")
        put(world, world.file.read_text()[:left] if left else left)
        assert soon(lambda: proxy.app.policy.refused)
        two = lock(proxy, "sales/audited")
        assert one in world.file.read_text() and two in world.file.read_text()
        put(world, world.file.read_text()[:left] if left else left)
        assert ask(proxy, "DELETE", f"/-/lockdowns/{one}").status == 200
        assert sees(proxy) == 200 and two in world.file.read_text()
        assert follows(proxy) and soon(lambda: proxy.app.policy.refused is None)


def test_lines_by_hand_end_where_their_author_takes_them(world):
    """A line without an id is held like the others; moved to policy.csv, it is an author's, who may end it."""
    with world.started() as proxy:
        world.file.write_text(BY_HAND)
        assert proxy.reload() and sees(proxy) == 404
        world.file.unlink()
        assert not proxy.reload() and "move it to policy.csv" in proxy.app.policy.refused.why
        world.home.write("policy.csv", RULES + BY_HAND)
        assert proxy.reload() and sees(proxy) == 404
        world.home.write("policy.csv", RULES)
        assert proxy.reload() and sees(proxy) == 200


def test_a_lift_that_was_not_kept_ends_it_all_the_same(world, monkeypatch):
    """Written and on record, it is in force as soon as it can be: after the fault, or after a restart."""
    with world.started() as proxy:
        one = lock(proxy)

        def full(*_: object) -> None:
            raise OSError(28, "no space left")

        with monkeypatch.context() as at:
            at.setattr(proxy.app.policy._versions, "keep", full)
            assert ask(proxy, "DELETE", f"/-/lockdowns/{one}").status == 409
        assert sees(proxy) == 404
    with world.started() as proxy:
        assert sees(proxy) == 200
        two = lock(proxy)
        with monkeypatch.context() as at:
            at.setattr(proxy.app.policy._versions, "keep", full)
            assert ask(proxy, "DELETE", f"/-/lockdowns/{two}").status == 409
        assert proxy.reload() and sees(proxy) == 200


def test_a_start_that_cannot_tell_what_was_locked_down_is_refused(world):
    """Without the version that was in force, another folder is not taken on trust; the same one is."""
    with world.started() as proxy:
        lock(proxy)
    shutil.rmtree(world.home.folder / "access-policies")
    text = world.file.read_text()
    world.file.unlink()
    with pytest.raises(CounterfoilError, match="a lockdown may be in force"), world.started():
        pass
    world.file.write_text(text)
    with world.started() as proxy:
        assert sees(proxy) == 404
