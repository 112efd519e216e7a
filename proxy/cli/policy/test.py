"""`counterfoil policy test`: whether the policies do what their tests.yaml says."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from proxy.cli.log import visible
from proxy.cli.policy.folder import faulty, policies, show
from proxy.errors import Faulty
from proxy.review.specification import outcomes
from proxy.snapshot import TESTS_FILE, read_folder, snapshot_of


@click.command("test")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def test_(folder: Path | None, *, as_json: bool) -> None:
    """Run the tests of FOLDER's tests.yaml: who must see what.

    They are run before each reload too: a policy that fails one is not taken.

    Exit status: 0 all hold, 1 one does not, 2 the files are at fault.
    """
    where = policies(folder)
    files: dict[str, bytes] = {}
    try:
        files = read_folder(where)
        found = outcomes(snapshot_of(files), files)
    except Faulty as exc:
        faulty(exc.faults, files, as_json=as_json)
    failed = [outcome for outcome in found if outcome.faults]
    if as_json:
        tests = [
            {"name": each.name, "holds": not each.faults, "faults": [*map(str, each.faults)]}
            for each in found
        ]
        click.echo(msgspec.json.encode({"tests": tests}))
    else:
        for each in found:
            word = (
                click.style("fails", fg="red") if each.faults else click.style("holds", fg="green")
            )
            click.echo(f"{word}  {visible(each.name)}")
            for fault in each.faults:
                show(fault, files, label="failed", color="red")
        if TESTS_FILE not in files:
            click.echo(f"{where} has no {TESTS_FILE}: nothing was expected")
        else:
            click.echo(f"{len(found) - len(failed)} of {len(found)} tests hold")
    sys.exit(1 if failed else 0)
