"""Counters in a Valkey (or Redis), shared by several servers: a charge is a script, atomic, by its clock.

Keys, below `counterfoil:budgets:`:

    c:COUNTER                  since when it is charged by all: microseconds since the epoch
    s:SUBJECT:COUNTER:START    of one window: `n` spent, `since`, and `r:REPORT` for each different report;
                               it goes a while after its window
    k:NAME                     claimed; it goes when that ends

Subjects are opaque ids, the same for servers with the same keyring. Scripts reach keys that they find out by
themselves, so it is one primary, and no cluster. Whatever goes wrong is `BudgetsUnavailable`: a charge that
was made and not answered is one too many, never one too few.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, Final, cast

import valkey.asyncio
from valkey.exceptions import ResponseError, ValkeyError

from proxy.budgets.counters import (
    Begin,
    Begun,
    BudgetsUnavailable,
    Charge,
    Charged,
    Over,
    Spent,
    Unknown,
)
from proxy.policy.limits import Window

_PREFIX: Final = "counterfoil:budgets:"
_SECONDS: Final = 2.0
"""To connect, and for an answer."""
_CONNECTIONS: Final = 64
_KEEPS: Final = "noeviction"
_FORGETS: Final = (
    "the Valkey for budgets evicts keys when its `maxmemory` is full, and what was spent would be to spend"
    f" again: set its `maxmemory-policy` to `{_KEEPS}`"
)

_NOW: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1])
local micros = string.format('%.0f', now * 1000000 + tonumber(t[2]))
local prefix = ARGV[1]
"""
_DECLARE: Final = f"""{_NOW}
for i = 2, #ARGV do redis.call('SET', prefix .. 'c:' .. ARGV[i], micros) end
return 1
"""
_CHARGE: Final = f"""{_NOW}
local subject, keep = ARGV[2], ARGV[3]
local begin, amounts, writes, over = {{}}, {{}}, {{}}, nil
for i = 4, #ARGV, 5 do
  local counter, seconds, more = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local report, most = ARGV[i + 3], tonumber(ARGV[i + 4])
  local start = math.floor((now - 345600) / seconds) * seconds + 345600
  redis.call('SETNX', prefix .. 'c:' .. counter, micros)
  local since = redis.call('GET', prefix .. 'c:' .. counter)
  local key = prefix .. 's:' .. subject .. ':' .. counter .. ':' .. string.format('%.0f', start)
  local row = redis.call('HMGET', key, 'n', 'since')
  local counted = row[1] and tonumber(row[2]) or start * 1000000
  if counted < tonumber(since) then
    begin[#begin + 1] = {{counter, start, since}}
  else
    local before = tonumber(row[1] or '0')
    if report ~= '' and redis.call('HEXISTS', key, 'r:' .. report) == 1 then more = 0 end
    local after = before + more
    if more > 0 and most and after > most and not over then
      over = {{'over', now, counter, start, start + seconds}}
    end
    amounts[#amounts + 1] = {{counter, before, after}}
    if more > 0 then writes[#writes + 1] = {{key, after, report, start, start + seconds}} end
  end
end
if #begin > 0 then return {{'unknown', begin}} end
if over then return over end
if keep == '1' then
  for _, w in ipairs(writes) do
    redis.call('HSET', w[1], 'n', string.format('%.0f', w[2]))
    redis.call('HSETNX', w[1], 'since', string.format('%.0f', w[4] * 1000000))
    if w[3] ~= '' then redis.call('HSET', w[1], 'r:' .. w[3], '1') end
    redis.call('EXPIREAT', w[1], w[5] + 3600)
  end
end
return {{'spent', now, amounts}}
"""
_BEGIN: Final = f"""{_NOW}
local counter, start, seconds, since = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local key = prefix .. 's:' .. ARGV[2] .. ':' .. counter .. ':' .. start
local n = math.max(tonumber(ARGV[7]), tonumber(redis.call('HGET', key, 'n') or '0'))
for i = 8, #ARGV do redis.call('HSET', key, 'r:' .. ARGV[i], '1') end
if #ARGV >= 8 then
  local seen = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 2) == 'r:' then seen = seen + 1 end
  end
  n = math.max(n, seen)
end
local before = redis.call('HGET', key, 'since')
if not before or tonumber(before) < tonumber(since) then redis.call('HSET', key, 'since', since) end
redis.call('HSET', key, 'n', string.format('%.0f', n))
redis.call('EXPIREAT', key, tonumber(start) + seconds + 3600)
return 1
"""


class Valkey:
    """One process's way to the counters; for one event loop."""

    def __init__(self, url: str, *, password: str | None) -> None:
        """`url`: `valkey://host:port/number`, or `valkeys://…` over TLS. Connects when it is first asked."""
        pool = valkey.asyncio.BlockingConnectionPool.from_url(
            url,
            password=password,
            socket_connect_timeout=_SECONDS,
            socket_timeout=_SECONDS,
            max_connections=_CONNECTIONS,
            timeout=_SECONDS,
            decode_responses=True,
        )
        self._client = valkey.asyncio.Valkey.from_pool(pool)
        self._scripts = {
            script: self._client.register_script(script) for script in (_DECLARE, _CHARGE, _BEGIN)
        }

    async def declare(self, counters: Collection[str]) -> None:
        """Count these without a gap from now on; what was known of them is held against the log again.

        Raises BudgetsUnavailable too where it may let go of what is spent when its memory is full.
        """
        await self._must_keep()
        await self._run(_DECLARE, *counters)

    async def charge(
        self, subject: str, charges: Sequence[Charge], *, keep: bool = True
    ) -> Charged:
        """Charge a subject, or say why not."""
        words: list[str] = [subject, "1" if keep else "0"]
        for each in charges:
            most = "" if each.most is None else str(each.most)
            words += [each.counter, str(each.per.seconds), str(each.amount), each.report, most]
        match await self._run(_CHARGE, *words):
            case ["unknown", begin]:
                return Unknown(
                    begin=tuple(
                        Begin(counter=counter, start=start, since=float(since))
                        for counter, start, since in begin
                    )
                )
            case ["over", now, counter, start, end]:
                return Over(now=float(now), counter=counter, window=Window(start, end))
            case ["spent", now, amounts]:
                found = {counter: (before, after) for counter, before, after in amounts}
                return Spent(now=float(now), amounts=found)
            case _:
                raise BudgetsUnavailable("the Valkey for budgets answers something else")

    async def begin(self, subject: str, begun: Sequence[Begun]) -> None:
        """Let counters begin at what the log says, or at what they have where that is more."""
        await self._must_keep()
        for each in begun:
            words = (
                each.begin.counter, each.begin.start, each.per.seconds, f"{each.begin.since:.0f}",
                each.amount,
            )  # fmt: skip
            await self._run(_BEGIN, subject, *map(str, words), *each.reports)

    async def claim(self, name: str, seconds: float) -> bool:
        """Whether nobody claimed the name within so many seconds before; then it is claimed."""
        key = f"{_PREFIX}k:{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        try:
            return bool(await self._client.set(key, "1", nx=True, ex=max(1, int(seconds))))
        except (ValkeyError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(ValkeyError, OSError):
            await self._client.aclose()

    async def _must_keep(self) -> None:
        """Raises BudgetsUnavailable where it evicts keys, unless that is not for this user to know."""
        try:
            told = await self._client.info("memory")
        except ResponseError:
            return
        except (ValkeyError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error
        if told.get("maxmemory") and told.get("maxmemory_policy", _KEEPS) != _KEEPS:
            raise BudgetsUnavailable(_FORGETS)

    async def _run(self, script: str, *words: str) -> Any:
        try:
            asked = self._scripts[script](args=[_PREFIX, *words])
            return await cast("Awaitable[Any]", asked)
        except (ValkeyError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> BudgetsUnavailable:
    return BudgetsUnavailable(f"the Valkey for budgets does not answer: {type(error).__name__}")
