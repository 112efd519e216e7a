"""What several servers have together: the database of the access log, and what is spent of budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from proxy.audit.shared import reached
from proxy.config import Config
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError
from proxy.settings import Budgets

_CHECK: Final = "shared"


async def shared(patient: Patient) -> Iterable[Finding]:
    """Each is opened as the proxy does; nothing is written."""
    config, found = patient.config, []
    if config.settings.database is not None:
        found.append(await _looked_at("database", _database(config)))
    if config.settings.budgets is not None:
        found.append(await _looked_at("budgets", _budgets(config, config.settings.budgets)))
    text = "nothing is shared with other servers"
    return found or [Finding(check=_CHECK, what="settings", state=State.OK, text=text)]


async def _looked_at(what: str, looking: Coroutine[Any, Any, str]) -> Finding:
    try:
        return Finding(check=_CHECK, what=what, state=State.OK, text=await looking)
    except CounterfoilError as exc:
        fix = "see to its name, route, port, certificate and password"
        return Finding(check=_CHECK, what=what, state=State.FAIL, text=str(exc), fix=fix)


async def _database(config: Config) -> str:
    if config.database is not None:
        await asyncio.to_thread(reached, config.database)
    return "opens, and makes durable what it takes"


async def _budgets(config: Config, budgets: Budgets) -> str:
    try:
        from proxy.budgets.valkey import Valkey  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise CounterfoilError("it needs `counterfoil[valkey]`") from exc
    counters = Valkey(budgets.valkey, password=config.budgets_password(budgets))
    try:
        await counters.declare(())
    finally:
        await counters.close()
    return "it answers"
