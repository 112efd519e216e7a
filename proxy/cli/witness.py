"""`counterfoil log witness`: remembers how far an access log had come, on a machine of the auditor's own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import ssl
from pathlib import Path

import click
from aiohttp import web

from proxy import durable
from proxy.audit.checkpoint import WITNESS, VerifierKey
from proxy.audit.witness import MOST_BODY, Answer, Witness
from proxy.cli.evidence import Key
from proxy.errors import CounterfoilError
from proxy.keys import Signer

_KEY_FILE = "witness.key"
_LOGGER = logging.getLogger("counterfoil")


@click.command()
@click.option("--vkey", type=Key(), required=True, help="The registry's verifier key.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default="witness",
    show_default=True,
    help="The folder in which it remembers; made where there is none, with a key.",
)
@click.option("--name", default="counterfoil-witness", show_default=True, help="It signs as that.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8450, show_default=True)
@click.option("--certificate", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def witness(
    vkey: VerifierKey,
    state: Path,
    *,
    name: str,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Sign checkpoints of an access log as far as each goes on from the one before; run until SIGTERM.

    Whoever operates the log must not be able to write to this machine. The checkpoints that it has
    signed are in its folder: `counterfoil log verify --retained` takes them.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    if certificate is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise click.UsageError("without --certificate it listens on a loopback address only")
    try:
        state.mkdir(mode=durable.PRIVATE_FOLDER, parents=True, exist_ok=True)
        _hold(state)
        signer = _signer(state)
        own = VerifierKey(name=name, public=signer.public, kind=WITNESS)
        known = Witness(state, vkey, own, signer.sign)
    except (OSError, ValueError) as error:
        raise CounterfoilError(f"the folder {state} cannot be used: {error}") from None
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            said = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not PEM"
            raise CounterfoilError(f"--certificate or --key cannot be loaded: {said}") from None
    asyncio.run(_serve(known, host, port, tls))


def _hold(folder: Path) -> None:
    """As long as this process lives, no other witness remembers there. Raises OSError, or ValueError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError("another witness remembers in it") from None


def _signer(folder: Path) -> Signer:
    """The witness's key; drawn at the first start. Raises OSError, or ValueError where it is none."""
    path = folder / _KEY_FILE
    if not path.exists():
        durable.write(path, Signer.draw().hex().encode() + b"\n")
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} is open to others: set its mode to 0600")
    return Signer(bytes.fromhex(path.read_text().strip()), "witness")


async def _serve(known: Witness, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    async def asked(request: web.BaseRequest) -> web.Response:
        verbs = {"/add-checkpoint": known.add_checkpoint, "/add-log": known.add_log}
        verb = verbs.get(request.path)
        if verb is None or request.method != "POST":
            return web.Response(status=404 if verb is None else 405)
        body = await request.content.read(MOST_BODY + 1)
        while len(body) <= MOST_BODY and not request.content.at_eof():
            body += await request.content.read(MOST_BODY + 1 - len(body))
        if len(body) > MOST_BODY:
            return web.Response(status=413)
        try:
            answer = await asyncio.to_thread(verb, body)
        except OSError as error:
            _LOGGER.error("cannot remember: %s", error.strerror)
            answer = Answer(500)
        if answer.status in (409, 422):
            _LOGGER.warning("%s: %d %s", request.path, answer.status, answer.body[:80].decode())
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.type}
        )

    runner = web.ServerRunner(web.Server(asked, access_log=None))
    await runner.setup()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise CounterfoilError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        assert site._server is not None  # noqa: SLF001 - aiohttp tells the port nowhere else
        bound = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        click.echo(f"witness listens on {'https' if tls else 'http'}://{host}:{bound}")
        click.echo(f"its key: {known.key}")
        with contextlib.suppress(asyncio.CancelledError):
            await stop.wait()
    finally:
        await runner.cleanup()
