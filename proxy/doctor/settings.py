"""Settings, policies and keyring: what the proxy reads at its start, read as it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from shlex import quote
from typing import Final

from proxy.catalogue import Catalogue
from proxy.config import Config
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError, Fault, Faulty
from proxy.identity import Identities
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.review.check import check
from proxy.seal import unlike
from proxy.settings import lowered
from proxy.snapshot import read_folder, snapshot_of, unread
from proxy.worktree import head_of

_CHECK_POLICIES: Final = "counterfoil policy check"


async def configuration(patient: Patient) -> Iterable[Finding]:
    """What of the settings, which can be read, does not hold together with the environment."""
    return list(_configuration(patient.config))


def _configuration(config: Config) -> Iterator[Finding]:
    settings = config.settings
    found = False
    for what, read in _secrets(config):
        try:
            read()
        except CounterfoilError as exc:
            found = True
            yield Finding(
                check="configuration",
                what=what,
                state=State.FAIL,
                text=str(exc),
                fix="put it where the setting says: a variable of the proxy's environment, or a file",
            )
    for name, whole, own in lowered(settings):
        found = True
        yield Finding(
            check="configuration",
            what=name,
            state=State.WARN,
            text=f"{whole} is more than the share of one of {settings.workers} workers, {own}",
            fix="raise what all have together, or run fewer workers",
        )
    if not found:
        text = "all settings are understood"
        yield Finding(check="configuration", what="settings", state=State.OK, text=text)


def _secrets(config: Config) -> Iterator[tuple[str, Callable[[], object]]]:
    """Where the settings name a secret, and what reads it at the start, which raises CounterfoilError."""
    settings = config.settings
    yield "alarms", config.alarms_token
    yield "alarms", config.alarms_secret
    yield "database", lambda: config.database
    if settings.metrics is not None:
        yield "metrics", partial(config.metrics_token, settings.metrics)
    if settings.budgets is not None:
        yield "budgets", partial(config.budgets_password, settings.budgets)
    if settings.traces is not None:
        yield "traces", partial(config.traces_token, settings.traces)
    for number, retain in enumerate(settings.retain):
        yield f"retain[{number}]", partial(config.retain_token, retain)


def declared(config: Config) -> tuple[Catalogue | None, Identities | None]:
    """The catalogue and the issuers, each if its own file has no fault, without keys and credentials."""
    catalogue = identities = None
    with suppress(Faulty):  # each fault is told by `policies`
        files = read_folder(config.path(config.settings.policies))
        with suppress(Faulty):
            identities = Identities.load(files["subjects.yaml"], file="subjects.yaml", folder=None)
        catalogue = Catalogue.load(
            files["reports.yaml"], file="reports.yaml", environment={}, folder=None
        )
    return catalogue, identities


def catalogue_with_credentials(config: Config) -> Catalogue | None:
    """The catalogue with what the proxy presents to stores; None where something of it is at fault."""
    with suppress(Faulty):  # each fault is told by `policies`
        folder = config.path(config.settings.policies)
        return Catalogue.load(
            read_folder(folder)["reports.yaml"],
            file="reports.yaml",
            environment=config.lent,
            folder=folder,
            commands=frozenset(config.settings.commands),
            closed=config.closed,
        )
    return None


async def policies(patient: Patient) -> Iterable[Finding]:
    """The policy files, as `policy check` and the server read them."""
    config = patient.config
    folder = config.path(config.settings.policies)
    files: Mapping[str, bytes] = {}
    warnings = 0
    faults: list[Fault] = []
    try:
        files = read_folder(folder)
        checked = check(files, beside=unread(folder))
        faults += checked.faults
        warnings = len(checked.warnings)
        # With keys and credentials, which a check does without.
        snapshot = snapshot_of(
            files,
            folder=folder,
            environment=config.lent,
            commands=frozenset(config.settings.commands),
            closed=config.closed,
        )
        must_be = config.settings.policies_must_be
        commit = head_of(folder) if must_be == "committed" else None
        faults += unlike(must_be, folder, files, commit)
        faults += unlike(must_be, folder, snapshot.identities.files, commit, keys=True)
        version = snapshot.version
    except Faulty as exc:
        faults += exc.faults
        version = ""
    command = f"{_CHECK_POLICIES} {quote(str(folder))}"
    found = [Finding.of("policies", fault) for fault in sorted(set(faults))]
    if warnings:
        found.append(
            Finding(
                check="policies",
                what=str(folder),
                state=State.WARN,
                text=f"{warnings} of `policy check`'s warnings: lines hardly mean what they seem to",
                fix="read them",
                command=command,
            )
        )
    if not found:
        text = f"version {version[:12]} can be taken"
        found.append(Finding(check="policies", what=str(folder), state=State.OK, text=text))
    return found


async def keyring(patient: Patient) -> Iterable[Finding]:
    """Whether the keyring opens, which asks its key-encryption key, in a Vault perhaps."""
    config = patient.config
    what = str(config.keyring)
    try:
        kek = kek_of(config.key_encryption_key, config.environment)
        ring = keyring_file.read(config.keyring, kek)
    except CounterfoilError as exc:
        missing = not config.keyring.exists()
        return [
            Finding(
                check="keyring",
                what=what,
                state=State.FAIL,
                text=str(exc),
                fix="make it, once" if missing else "put the file, its mode or its key right",
                command="counterfoil keys init" if missing else "",
            )
        ]
    count = len(ring.keys)
    text = f"opens, with {count} {'key' if count == 1 else 'keys'}"
    return [Finding(check="keyring", what=what, state=State.OK, text=text)]
