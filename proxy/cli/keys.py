"""`counterfoil keys …`: make the keyring, and change which of its keys seals and names.

No verb takes a key as an argument, and none shows one.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Final

import click
import msgspec

from proxy import config, cores, durable
from proxy.audit import Access, Asked, Reader
from proxy.cli.log import settings_option, up_to_date, visible
from proxy.cli.operated import note
from proxy.cli.tables import console, table
from proxy.config import Config
from proxy.errors import KeyringError, LogUnavailable
from proxy.keys import KEY_BYTES, Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import Kek, kek_of

_RENAMES: Final = """\
Whoever reads what was given before and what is given from now on will not be able to join the two:
  pseudonyms and tokens     of the same value are others, and so are shifted dates and cells of
                            encrypt(deterministic='field'); `reveal` of older tokens needs --key
  validators (ETag)         clients fetch anew what they have
  the access log            subjects get other opaque ids, and digests of parameters are others;
                            `log query --subject` goes on finding both by a subject's name
What was encrypted before still opens. `rotate` without --names changes none of this."""
_TAKEN: Final = (
    "a running server takes it within some seconds; `counterfoil keys list` says whether"
)


@click.group()
def keys() -> None:
    """Make the keyring, and change which of its keys seals and names.

    One key seals what is encrypted from now on; one names: pseudonyms, tokens and the log's opaque ids
    are made under it. A key is active (seals or names), on standby (opens what it sealed, and may be
    active again) or retired (opens, and is never active again). No key is ever removed.

    These verbs change the keyring's file itself, whoever may write it. A running server takes what they
    leave, and puts it on record.
    """
    cores.forbid()


@keys.command()
@settings_option
@click.option(
    "--kek-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Make a key-encryption key in this file too, unless it is there.",
)
def init(settings: Path, kek_file: Path | None) -> None:
    """Make the keyring that the settings name, with one key that seals and names.

    It is sealed under the key-encryption key that the settings name. Nothing that is there is ever
    overwritten: whose key is gone, its values are gone.
    """
    found = config.load(settings, os.environ)
    if os.path.lexists(found.keyring):
        raise KeyringError(f"the keyring {found.keyring} exists already; it is never overwritten")
    spec = found.key_encryption_key
    if kek_file is not None:
        spec = _kek_file(found, kek_file)
    made = keyring_file.create(found.keyring, kek_of(spec, found.environment))
    click.echo(f"{made.sealing}  seals and names, in {visible(str(found.keyring))}")
    if spec != found.key_encryption_key:
        name = found.key_encryption_key.partition(":")[2]
        click.echo(f'before a server starts: export {name}="$(cat {visible(str(kek_file))})"')


@keys.command()
@settings_option
@click.option("--names", is_flag=True, help="Have the key name as well: pseudonyms become others.")
@click.option("--to", "key_id", metavar="ID", help="Back to this key, which is on standby.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rotate(settings: Path, *, names: bool, key_id: str | None, yes: bool) -> None:
    """Have a new key seal from now on; the one before goes on standby, unless it still names.

    What was sealed before opens as it did, and pseudonyms stay what they are; with --names they do not.
    """
    found, kek = _opened(settings)
    if names and not yes:
        click.echo(_RENAMES, err=True)
        click.confirm("Have another key name?", abort=True, err=True)

    note("keys rotate", settings)

    def change(keyring: Keyring) -> Keyring:
        if key_id is None:
            return keyring.rotated(names=names)
        return keyring.turned_to(key_id, names=names)

    made = keyring_file.edit(found.keyring, kek, change)
    click.echo(f"{made.sealing}  {made.does(made.sealing)}; {_TAKEN}")
    if made.naming != made.sealing:
        click.echo(f"{made.naming}  names, as before")


@keys.command()
@settings_option
@click.argument("key_id", metavar="ID")
def retire(settings: Path, key_id: str) -> None:
    """Retire a key on standby: it opens what it sealed, and is never active again."""
    found, kek = _opened(settings)
    note("keys retire", settings)
    keyring_file.edit(found.keyring, kek, lambda keyring: keyring.retired(key_id))
    click.echo(f"{key_id}  retired; {_TAKEN}")


@keys.command()
@settings_option
@click.option(
    "--new-kek",
    required=True,
    metavar="SPEC",
    help="Where the new one is: env:NAME, file:PATH, credential:NAME or vault:URL, as in the settings.",
)
def rewrap(settings: Path, new_kek: str) -> None:
    """Seal the same keys under another key-encryption key, which is there already.

    A running server goes on with the keys that it has, and says that it cannot open the file, until its
    settings name the new one and it is started again.
    """
    found, kek = _opened(settings)
    spec = found.source(new_kek)
    note("keys rewrap", settings)
    keyring_file.edit(
        found.keyring, kek, lambda keyring: keyring, under=kek_of(spec, found.environment)
    )
    if spec != found.key_encryption_key:
        click.echo(
            f"sealed under the new key; next: `key_encryption_key: {visible(new_kek)}` in"
            f" {visible(str(settings))}, and start the server again"
        )
    else:
        click.echo("sealed under that key anew")


@keys.command("list")
@settings_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(settings: Path, *, as_json: bool) -> None:
    """Show the keys: id, when each was made, its state, and what it does; never a key.

    Says too what the access log has of it: which keys the server has in force, and whether it refused the
    file; then, or where it has others, the exit status is 1.
    """
    found, kek = _opened(settings)
    keyring = keyring_file.read(found.keyring, kek)
    loaded, refused = _on_record(found)
    does = {"seals": keyring.sealing, "names": keyring.naming}
    in_force = {name: loaded.parameters.get(name, "") for name in does} if loaded else does
    stale = refused is not None or in_force != does
    if as_json:
        click.echo(
            msgspec.json.encode(
                {
                    "keys": [
                        {
                            "id": key.id,
                            "created": key.created,
                            "state": key.state,
                            "seals": key.id == keyring.sealing,
                            "names": key.id == keyring.naming,
                        }
                        for key in keyring.keys
                    ],
                    "in_force": loaded and {"since": loaded.started, **in_force},
                    "refused": refused and {"at": refused.started, "cause": refused.cause},
                    "stale": stale,
                }
            )
        )
    else:
        _print_table(keyring)
        if loaded is not None:
            said = f"{in_force['seals']} seals, {in_force['names']} names"
            click.echo(f"in force  {said}, since {loaded.started}")
        if refused is not None:
            click.echo(
                f"refused   {refused.started} {refused.cause}: the server's own log says more"
            )
    if stale:
        raise SystemExit(1)


def _opened(settings: Path) -> tuple[Config, Kek]:
    """The settings, and the key-encryption key that they name."""
    found = config.load(settings, os.environ)
    return found, kek_of(found.key_encryption_key, found.environment)


def _kek_file(found: Config, path: Path) -> str:
    """Where the key-encryption key is: in that file, which is made unless it is there."""
    kind, _, place = found.key_encryption_key.partition(":")
    path = path.absolute()
    if kind == "file" and os.path.realpath(place) != os.path.realpath(path):
        raise KeyringError(
            f"the settings take the key-encryption key from {place}: name that file, or change them"
        )
    if kind == "env" and place in found.environment:
        raise KeyringError(f"{place} holds a key-encryption key already: leave out --kek-file")
    if kind not in ("env", "file"):
        raise KeyringError("the settings name a key that is in no file: leave out --kek-file")
    if not os.path.lexists(path):
        try:
            durable.write_new(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        except OSError as exc:
            raise KeyringError(f"the key file {path} cannot be written: {exc.strerror}") from None
    return f"file:{path}"


def _on_record(found: Config) -> tuple[Access | None, Access | None]:
    """What the access log says is in force, and why the file is not, where it is not."""
    try:
        with Reader(up_to_date(found)) as reader:
            (loaded,) = reader.query(Asked(outcome="keys-loaded"), limit=1) or (None,)
            (refused,) = reader.query(Asked(outcome="keys-refused"), limit=1) or (None,)
    except LogUnavailable:  # no server was started yet
        return None, None
    if refused is not None and loaded is not None and refused.started < loaded.started:
        refused = None
    return loaded, refused


def _print_table(keyring: Keyring) -> None:
    shown = table(("id", "created", "state", ""))
    for key in keyring.keys:
        shown.add_row(key.id, visible(key.created), key.state, keyring.does(key.id))
    console().print(shown)
