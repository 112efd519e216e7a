"""Traces for those who look at many services at once: OpenTelemetry's spans, sent where the settings say.

What a trace holds is the gateway's (`gateway/tracing.py`); here it is put into OTLP's words (`otlp.py`) and
sent (`exporting.py`). Nobody waits for it, and nothing fails with it.
"""
