"""Traces as OTLP has them: an ExportTraceServiceRequest, in protobuf (opentelemetry-proto 1.x)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from proxy import __version__
from proxy.gateway.tracing import Trace

_SAMPLED = 1
_IS_REMOTE_KNOWN, _IS_REMOTE = 0x100, 0x200
"""Flags of a span: whether its parent is in another process (opentelemetry/proto/trace/v1/trace.proto)."""


def encode(traces: Iterable[Trace], *, instance: str) -> bytes:
    """The body of a POST; `instance` tells this process from others."""
    resource = {
        "service.name": "counterfoil",
        "service.version": __version__,
        "service.instance.id": instance,
    }
    spans = ScopeSpans(
        scope=InstrumentationScope(name="counterfoil", version=__version__),
        spans=[span for trace in traces for span in _spans(trace)],
    )
    request = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(resource=Resource(attributes=_said(resource)), scope_spans=[spans])
        ]
    )
    return bytes(request.SerializeToString())


def _spans(trace: Trace) -> Iterator[Span]:
    action = trace.said.get("counterfoil.action", "")
    report = trace.said.get("counterfoil.report", "")
    remote = _IS_REMOTE_KNOWN | (_IS_REMOTE if trace.parent else 0)
    yield Span(
        trace_id=trace.id,
        span_id=trace.span,
        parent_span_id=trace.parent,
        flags=_SAMPLED | remote,
        name=f"{action} {report}".strip() or "request",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=trace.began,
        end_time_unix_nano=trace.ended,
        attributes=_said(trace.said),
        status=Status(code=Status.STATUS_CODE_ERROR) if "error.type" in trace.said else None,
    )
    for step in trace.steps:
        yield Span(
            trace_id=trace.id,
            span_id=step.id,
            parent_span_id=trace.span,
            flags=_SAMPLED | _IS_REMOTE_KNOWN,
            name=step.name,
            kind=Span.SPAN_KIND_CLIENT if step.name == "fetch" else Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=step.began,
            end_time_unix_nano=step.ended,
            attributes=_said(step.said),
        )


def _said(said: Mapping[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(
            key=name,
            value=AnyValue(int_value=value)
            if isinstance(value, int)
            else AnyValue(string_value=value),
        )
        for name, value in said.items()
    ]
