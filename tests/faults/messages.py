"""The messages of faults as the source writes them, with `…` where they vary.

A message stands in the call that makes the fault, in a variable of the same function, or in what a
function of `GIVEN_BACK` returns. A call whose message is in none of these must be in `PASSED_ON`, or
the scan fails: no message can hide from it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROXY = Path(__file__).parents[2] / "proxy"
MODULES = (
    "snapshot.py", "documents/*.py", "addresses.py",
    "catalogue/*.py", "client_tls.py",
    "identity/subjects.py", "identity/subject_faults.py", "identity/fetching.py", "identity/jwks.py", "identity/strict.py",
    "policy/source.py", "policy/reading.py", "policy/syntax.py", "policy/grammar.py",
    "policy/people.py", "policy/limits.py", "policy/meeting.py", "policy/differencing.py", "policy/conditions/*.py",
    "treatments/*.py", "review/specification.py",
)  # fmt: skip
"""Where faults of policy files are made."""
ELSEWHERE = {
    "config.py": "about counterfoil.yaml",
    "seal.py": "about what is sealed or committed",
    "lockdowns.py": "about what is in force",
    "exposure/where.py": "about a condition of the command line",
    "review/idle.py": "a warning, of a file that is not read",
    "cli/policy/fmt.py": "a file that `fmt` cannot read, or is not for",
}
"""Where other faults are made, or what looks like it."""

MAKERS = {
    "Fault": None,  # by its keyword
    "fault": 0, "_fault": 0, "_wrong": 1, "Mistake": 1, "_stop": 1, "BadTreatment": 1,
    "BadArgument": 1, "_Wrong": 1,
}  # fmt: skip
"""What makes a fault -> which of its arguments is the message."""
OTHERWISE = {
    ("policy/syntax.py", "fault"): 1,
    ("policy/conditions/check.py", "_fault"): 1,
    ("catalogue/parameters.py", "note"): 0,
}
"""The same for makers of one module."""
GIVEN_BACK = {
    ("addresses.py", "fault_of"), ("addresses.py", "refused"), ("client_tls.py", "fault_of"),
    ("identity/fetching.py", "refused_url"), ("policy/grammar.py", "_unknown"),
    ("policy/syntax.py", "_separators"), ("policy/meeting.py", "incomparable"),
    ("policy/differencing.py", "differenced"),
    ("documents/typed.py", "_outside"),
}  # fmt: skip
"""Functions that return or yield a message, or a tuple of an offset, the message and a hint."""
PASSED_ON = {
    "identity/subjects.py": {"_fault", "_may_be_asked"},  # the latter: what `refused_url` gives
    "policy/conditions/check.py": {"_fault"},
    "policy/conditions/syntax.py": {"_stop"},
    "policy/grammar.py": {"fields"},  # what `_unknown` gives
    "policy/people.py": {"_read", "_groups"},  # what a Wrong holds
    "policy/limits.py": {"_fault", "_tell"},  # as above
    "policy/reading.py": {"_cell", "_treatment", "_formed", "_forms"},
    "policy/source.py": {"_clashes"},
    "policy/syntax.py": {"fault", "read", "_cells"},  # what `_separators` gives
    "documents/__init__.py": {"fault"},
    "documents/tree.py": {"_fault"},
    "documents/typed.py": {"_wrong", "_leaf", "_struct"},  # `_outside`; a struct's own error
    "catalogue/reading.py": {"_fault", "note"},
    "catalogue/stores.py": {"store", "_oauth", "_tls"},  # what the two `fault_of` give
    "review/specification.py": {"_fault"},
    "treatments/__init__.py": {"parse"},  # what a BadArgument says
}
"""Functions that hand on a message which is made, and found, elsewhere."""


@dataclass
class Found:
    """What a scan finds."""

    templates: dict[str, set[str]] = field(default_factory=dict)
    """Message -> the places that make it."""
    unread: list[str] = field(default_factory=list)
    """Calls whose message cannot be read, and which are not in `PASSED_ON`."""
    passed_on: set[tuple[str, str]] = field(default_factory=set)
    """The functions in which such a call was met."""


def scan() -> Found:
    """All messages of `MODULES`."""
    found = Found()
    for path in sorted({path for pattern in MODULES for path in PROXY.glob(pattern)}):
        name = path.relative_to(PROXY).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        for function in _functions(tree):
            _Scan(name, tree, function, found).visit()
    return found


def unlooked_at() -> set[str]:
    """Modules that make faults and are neither of `MODULES` nor `ELSEWHERE`."""
    looked_at = {path for pattern in MODULES for path in PROXY.glob(pattern)}
    makers = re.compile(r"\b(?:Fault|Mistake|BadTreatment|BadArgument|Wrong)\(")
    return {
        path.relative_to(PROXY).as_posix()
        for path in {*PROXY.rglob("*.py")} - looked_at
        if makers.search(path.read_text("utf-8"))
    } - ELSEWHERE.keys()


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions of a module, methods and inner ones too."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


class _Scan:
    """One function, without those inside it."""

    def __init__(
        self, module: str, tree: ast.Module, function: ast.FunctionDef, found: Found
    ) -> None:
        self._module = module
        self._function = function
        self._found = found
        self._own = list(_inside(function))
        self._bound: dict[str, list[ast.expr]] = {}
        for node in (*tree.body, *self._own):
            match node:
                case ast.Assign(targets=[target], value=value):
                    self._bind(target, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._bind(target, value)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Name(name), _:
                self._bound.setdefault(name, []).append(value)
            case ast.Tuple(targets), ast.Tuple(values) if len(targets) == len(values):
                for one, other in zip(targets, values, strict=True):
                    self._bind(one, other)
            case ast.Tuple(targets), _:
                for one in targets:
                    self._bind(one, value)  # no text, so whoever tells of it is not read

    def visit(self) -> None:
        given_back = (self._module, self._function.name) in GIVEN_BACK
        for node in self._own:
            match node:
                case ast.Call():
                    self._call(node)
                case ast.Return(value=value) | ast.Yield(value=value) if given_back and value:
                    self._given_back(value)

    def _call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Name(name) | ast.Attribute(attr=name):
                pass
            case _:
                return
        if name == "Wrong":
            for argument in node.args:
                self._take(self._one_of(argument), node)
        elif name in MAKERS:
            at = OTHERWISE.get((self._module, name), MAKERS[name])
            named = next((k.value for k in node.keywords if k.arg == "message"), None)
            if named is not None:
                self._take(named, node)
            elif at is not None and len(node.args) > at:
                self._take(node.args[at], node)
            else:
                self._take(node, node)

    def _one_of(self, argument: ast.expr) -> ast.expr:
        """The message of an argument of `Wrong`: a tuple, or tuples that a comprehension makes."""
        match argument:
            case ast.Tuple(elts=[_, message, *_]):
                return message
            case ast.Starred(ast.Name(name)):
                for value in self._bound.get(name, ()):
                    if isinstance(value, ast.ListComp) and isinstance(value.elt, ast.Tuple):
                        return value.elt.elts[1]
        return argument

    def _given_back(self, value: ast.expr) -> None:
        match value:
            case ast.Constant(None) | ast.Call():
                pass  # nothing is wrong, or another function says it
            case ast.IfExp(body=body, orelse=orelse):
                self._given_back(body)
                self._given_back(orelse)
            case ast.Tuple(elts=elements):
                for element in elements:
                    if isinstance(element, ast.Tuple):
                        self._given_back(element)
                texts = [e for e in elements if isinstance(e, ast.JoinedStr) or _is_text(e)]
                for message in texts[:1]:  # the hint comes after it
                    self._take(message, value)
            case _:
                self._take(value, value)

    def _take(self, message: ast.expr, node: ast.expr) -> None:
        templates = list(self._templates(message, 0))
        place = f"{self._module}:{node.lineno}"
        for template in templates:
            if template is not None:
                self._found.templates.setdefault(template, set()).add(place)
        if not templates or None in templates:
            self._found.passed_on.add((self._module, self._function.name))
            if self._function.name not in PASSED_ON.get(self._module, ()):
                self._found.unread.append(f"{place} in {self._function.name}")

    def _templates(self, message: ast.expr, depth: int) -> Iterator[str | None]:
        """The texts that an expression may give; None for what cannot be read."""
        match message:
            case ast.Constant(str(text)):
                yield text
            case ast.JoinedStr(values):
                yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in values)
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._templates(body, depth)
                yield from self._templates(orelse, depth)
            case ast.Name(name) if name in self._bound and depth < 3:
                for value in self._bound[name]:
                    yield from self._templates(value, depth + 1)
            case _:
                yield None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _inside(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, but for functions within it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
