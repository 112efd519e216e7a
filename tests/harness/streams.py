"""Decoders and encoders step by step, without a view."""

from __future__ import annotations

from typing import Any

from proxy.batch import Batch
from proxy.formats.base import Decoder, Encoder


def feed(stream: Decoder, block: bytes) -> list[Batch]:
    """The batches of the records that the block completes."""
    return [batch for work in stream.cut(block) for batch in work()]


def ended(stream: Decoder) -> list[Batch]:
    """The batches of the records that are left at the document's end; the stream lets go of all it held."""
    try:
        return [batch for work in stream.finish() for batch in work()]
    finally:
        stream.close()


def joined(stream: Encoder[Any], batch: Batch) -> bytes:
    """The batch's records, with what stands before them in the document."""
    return stream.join(stream.encode(batch))
