"""Paths and sources of reports.yaml: what may stand in them, each fault told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.catalogue.parameters import Note
from proxy.catalogue.routing import placeholder, placeholders, segments
from proxy.documents import nearest
from proxy.report import Parameter

MOST_PATH: Final = 512
"""Characters of a path."""
_SEGMENT = re.compile(r"[A-Za-z0-9\-._~]+\Z")
_SOURCE_QUERY = re.compile(
    r"[A-Za-z0-9\-._~]+=(?:[A-Za-z0-9\-._~!$'()*,:@/]|%[0-9A-Fa-f]{2})*"
    r"(?:&[A-Za-z0-9\-._~]+=(?:[A-Za-z0-9\-._~!$'()*,:@/]|%[0-9A-Fa-f]{2})*)*\Z"
)


def check_path(path: str, parameters: Mapping[str, Parameter], fault: Note) -> bool:
    """Check a path's segments; False where it has faults."""
    if not path.startswith("/"):
        fault("a path starts with `/`", hint=f"write `/{path}`")
        return False
    good = len(path) <= MOST_PATH
    if not good:
        fault(f"a path has at most {MOST_PATH} characters", hint="write a shorter one")
    for segment in segments(path):
        good &= _check_segment(segment, path, parameters, fault)
    names = placeholders(path)
    if len(set(names)) < len(names):
        fault("a parameter stands in the path twice", hint="take one of them out")
        return False
    return good


def _check_segment(
    segment: str, path: str, parameters: Mapping[str, Parameter], fault: Note
) -> bool:
    name = placeholder(segment)
    if name is not None and name not in parameters:
        fault(f"undeclared parameter `{name}`", hint=nearest(name, parameters))
    elif name is not None and parameters[name].pages:
        fault(
            f"`{name}` cuts out a page: it belongs into the query", hint="take it out of the path"
        )
    elif name is not None or (_SEGMENT.match(segment) and segment not in (".", "..")):
        return True
    elif not segment:
        plain = "/" + "/".join(filter(None, path.split("/")))
        hint = f"write `{plain}`" if plain != "/" else "such as `/sales/daily.csv`"
        fault("a path has no empty segment and no `/` at its end", hint=hint)
    elif segment in (".", ".."):
        fault("dot segments are not allowed", hint=f"take `/{segment}` out: write where it leads")
    else:
        fault(
            "a segment is letters, digits and `-._~`, or one whole `{parameter}`",
            hint="as in `/sales/{region}/store-daily.csv`",
        )
    return False


def check_source(source: str, path: str, parameters: Mapping[str, Parameter], fault: Note) -> None:
    """Check where the store has what is asked for by `path`."""
    own, mark, query = source.partition("?")
    if check_path(own, parameters, fault):
        given = placeholders(path)
        for name in placeholders(own):
            if name not in given and not parameters[name].required:
                fault(
                    f"parameter `{name}` may be missing from a request",
                    hint="make it required, or part of the path",
                )
    if mark and not _SOURCE_QUERY.match(query):
        hint = "such as `/daily?all=1&form=long`; encode what is no letter or digit as `%20`"
        fault("a fixed query is `name=value` pairs, joined by `&`", hint=hint)
    fixed = {pair.partition("=")[0] for pair in query.split("&")}
    for name in sorted(fixed & parameters.keys()):
        hint = "take it out of the query, or the parameter out of the report"
        fault(f"parameter `{name}` is fixed in the source's query", hint=hint)
