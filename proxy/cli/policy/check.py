"""`counterfoil policy check`: all that is wrong with the policy files, and what is odd about them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from proxy.cli.policy.folder import FAULTY, document, policies, row, show
from proxy.errors import Faulty
from proxy.review.check import Checked, check
from proxy.snapshot import read_folder, unread


@click.command("check")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--strict", is_flag=True, help="Exit with 1 where there are warnings.")
def check_(folder: Path | None, *, as_json: bool, strict: bool) -> None:
    """Say all that is wrong with the policies in FOLDER, each with its place.

    Exit status: 0 they can be taken, 2 they are at fault; with --strict 1 where there are warnings.
    """
    where = policies(folder)
    files: dict[str, bytes] = {}
    try:
        files = read_folder(where)
        found = check(files, beside=unread(where))
    except Faulty as exc:
        found = Checked(snapshot=None, faults=exc.faults)
    if as_json:
        click.echo(_json(found))
    else:
        for fault in found.faults:
            show(fault, files, label="error", color="red")
        for each in found.warnings:
            show(each.fault, files, label=f"warning[{each.kind}]", color="yellow")
        click.echo(_summary(where, found))
    if found.faults:
        sys.exit(FAULTY)
    sys.exit(1 if strict and found.warnings else 0)


def _summary(where: Path, found: Checked) -> str:
    warnings = f", {_number(len(found.warnings), 'warning')}" if found.warnings else ""
    if found.snapshot is None:
        return f"{where}: {_number(len(found.faults), 'error')}{warnings}: not a policy that can be taken"
    policy = found.snapshot.policy
    reports = _number(len(found.snapshot.catalogue.reports), "report")
    rules = len(policy.access) + len(policy.cells) + len(policy.reveals)
    lines = _number(rules, "rule")
    if limits := found.snapshot.limits.all:
        lines += f" and {_number(len(limits), 'limit')}"
    return f"{where}: {lines} for {reports}{warnings}; version {found.snapshot.version[:12]}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _json(found: Checked) -> bytes:
    return msgspec.json.encode(
        {
            **document(found.faults),
            "version": found.snapshot.version if found.snapshot else None,
            "warnings": [{"kind": each.kind, **row(each.fault)} for each in found.warnings],
        }
    )
