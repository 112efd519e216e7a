"""A store of Parquet files, as a process: `python -m benchmarks.files FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

_TYPE = {"Content-Type": "application/vnd.apache.parquet"}


async def _serve(folder: Path) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / request.match_info["name"], headers=_TYPE)

    application = web.Application()
    application.router.add_get("/files/{name}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"file store on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
