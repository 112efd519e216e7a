"""A sample report store: the sample reports over HTTP/1.1 behind a bearer token, as a process.

    python -m proxy.demo.store --port 8701 --seed 7 --rows 120000      (token: DEMO_STORE_TOKEN)

    GET /sales/store-daily.csv    from, to (days, inclusive) and store_id select rows
    GET /sales/store-daily.json   the same, as a top-level array
    GET /sales/store-daily.ndjson the same, an object a line
    GET /sales/producers.json     an envelope, rows at data.rows
    GET /finance/payroll.csv      what nobody is granted

It is a store as people have them: it checks its own token, filters by its own parameters and knows
nothing of who asks. Bodies are rendered once and kept, up to a bound; `--repeat` sends the rows of
a whole report many times over, so that a body may be larger than memory.
"""

from __future__ import annotations

import asyncio
import hmac
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final

import click
import uvloop
from aiohttp import web

from proxy.demo.sales import EVERYTHING, Document, Sales, Selection
from proxy.values import calendar_date

WRITE: Final = 1 << 20
"""Bytes that are handed to the socket at a time."""

KEPT: Final = 256 << 20
"""Bytes of rendered documents that are kept."""

Render = Callable[[Sales, Selection], Document]

SELECTABLE: Final[dict[str, Render]] = {
    "/sales/store-daily.csv": Sales.store_daily_csv,
    "/sales/store-daily.json": Sales.store_daily_json,
    "/sales/store-daily.ndjson": Sales.store_daily_ndjson,
}
FIXED: Final[dict[str, Render]] = {
    "/sales/producers.json": lambda sales, _: sales.producers_json(),
    "/finance/payroll.csv": lambda sales, _: sales.payroll_csv(),
}


class ReportStore:
    """The store's answers."""

    def __init__(self, sales: Sales, *, token: str, repeat: int = 1) -> None:
        """Render whole reports now, so that no request waits for that."""
        self._sales = sales
        self._authorization = f"Bearer {token}".encode()
        self._repeat = repeat
        self._kept: dict[tuple[str, Selection], Document] = {}
        for path, render in (SELECTABLE | FIXED).items():
            self._document(path, render, EVERYTHING)

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application(middlewares=[self._authenticated])
        for path, render in (SELECTABLE | FIXED).items():
            application.router.add_get(path, self._handler(path, render), allow_head=False)
        return application

    @web.middleware
    async def _authenticated(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._authorization):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    def _handler(
        self, path: str, render: Render
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                selected = selection(request, allowed=path in SELECTABLE)
            except ValueError as fault:
                return web.Response(status=400, text=f"{fault}\n")
            document = self._document(path, render, selected)
            times = self._repeat if selected == EVERYTHING and path in SELECTABLE else 1
            return await send(request, document, times)

        return handle

    def _document(self, path: str, render: Render, selected: Selection) -> Document:
        """Look the document up, or render and keep it; all are forgotten where that is too much."""
        document = self._kept.get((path, selected))
        if document is None:
            document = render(self._sales, selected)
            if sum(len(kept.rows) for kept in self._kept.values()) + len(document.rows) > KEPT:
                self._kept.clear()
            self._kept[path, selected] = document
        return document


def selection(request: web.Request, *, allowed: bool) -> Selection:
    """Parse a request's parameters; raise ValueError for one unknown, repeated or malformed."""
    given = dict(request.query)
    if len(given) != len(request.query):
        raise ValueError("a parameter is given twice")
    if given and not allowed:
        raise ValueError("this report takes no parameters")
    if unknown := given.keys() - {"from", "to", "store_id"}:
        raise ValueError(f"unknown parameters: {sorted(unknown)}")
    days = {name: calendar_date(given[name]) for name in ("from", "to") if name in given}
    if None in days.values():
        raise ValueError("from and to are days, YYYY-MM-DD")
    return Selection(first=days.get("from"), last=days.get("to"), store_id=given.get("store_id"))


def parts(document: Document, times: int) -> Iterator[bytes]:
    """Yield the body with its rows that many times."""
    yield document.head
    for time in range(times):
        if time:
            yield document.between
        yield document.rows
    yield document.tail


async def send(request: web.Request, document: Document, times: int) -> web.StreamResponse:
    """Answer with the document, in large writes that wait for the reader.

    Whoever reads for a page hangs up once it is full: then there is nobody to write to.
    """
    if times == 1 and len(document.rows) <= WRITE:
        return web.Response(body=document.body, headers={"Content-Type": document.type})
    response = web.StreamResponse(headers={"Content-Type": document.type})
    response.content_length = sum(map(len, parts(document, times)))
    with suppress(ConnectionError):
        await response.prepare(request)
        for part in parts(document, times):
            view = memoryview(part)
            for start in range(0, len(part), WRITE):
                await response.write(view[start : start + WRITE])
        await response.write_eof()
    return response


async def serve(store: ReportStore, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; say on standard output where."""
    runner = web.AppRunner(store.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        click.echo(f"report store on http://{bound[0]}:{bound[1]}")
        await stopped.wait()
    finally:
        await runner.cleanup()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", default=8701, show_default=True, help="0: one that is free, which is printed."
)
@click.option(
    "--token", envvar="DEMO_STORE_TOKEN", required=True, help="What a reader must present."
)
@click.option("--seed", default=7, show_default=True)
@click.option("--stores", default=1333, show_default=True)
@click.option("--days", default=90, show_default=True)
@click.option("--rows", default=120_000, show_default=True)
@click.option(
    "--repeat", default=1, show_default=True, help="How often a whole report has its rows."
)
def main(
    *, host: str, port: int, token: str, seed: int, stores: int, days: int, rows: int, repeat: int
) -> None:
    """Serve the sample reports until interrupted."""
    try:
        sales = Sales(seed=seed, stores=stores, days=days, rows=rows)
    except ValueError as fault:
        raise click.ClickException(str(fault)) from fault
    uvloop.run(serve(ReportStore(sales, token=token, repeat=repeat), host=host, port=port))


if __name__ == "__main__":
    main()
