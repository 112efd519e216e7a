"""Commands that are imported when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import click

from proxy.cli import main


def every(group, context):
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield name, command
        if isinstance(command, click.Group):
            yield from every(command, click.Context(command, parent=context, info_name=name))


def test_each_command_is_there_under_its_own_name():
    """No name leads to another command, or to none."""
    found = list(every(main, click.Context(main)))
    assert len(found) > 20
    assert all(command.name == name for name, command in found)
    assert main.get_command(click.Context(main), "nosuch") is None


def test_who_asks_for_one_does_not_wait_for_the_others():
    """To read the log takes no server, and no solver."""
    program = (
        "import sys; from proxy.cli import main; import click;"
        "main.get_command(click.Context(main), 'log');"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "proxy.cli.log" in loaded
    assert not {"aiohttp", "jwt", "casbin", "z3", "proxy.app", "proxy.review"} & set(loaded)
