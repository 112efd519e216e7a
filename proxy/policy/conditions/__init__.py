"""The condition language: small, typed and total, for `when` and `rows` of policy lines.

Text is parsed to a tree (`syntax`, `tree`), checked against the names and types in scope (`check`),
and compiled to a plain function (`evaluate`) and, where it reads rows, to what a request binds
(`bind`) to a test of columns (`columns`). There is no `eval`, no attribute access and no pattern: a
condition can only compare, compute and look up what its scope declares, and ends on every input.

    env.now > time('2026-12-24T18:00')
    row.store_id in sub.stores and not ip_in(env.ip, '10.9.0.0/16')
    row.date >= env.date - days(30) or row.region == 'North'
"""

from proxy.policy.conditions.check import Scope
from proxy.policy.conditions.condition import Condition
from proxy.policy.conditions.form import MAX_LENGTH, Between, Form, compile, part  # noqa: A004
from proxy.policy.conditions.mistakes import BadCondition, Mistake
from proxy.policy.conditions.syntax import MAX_DEPTH

__all__ = [
    "MAX_DEPTH", "MAX_LENGTH", "BadCondition", "Between", "Condition", "Form", "Mistake", "Scope",
    "compile", "part",
]  # fmt: skip
