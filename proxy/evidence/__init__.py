"""Which rows an answer holds, and in which forms: taken down while they are given, read back for years.

layout.py    what evidence looks like, and how a record names it
witness.py   released records -> evidence           reading.py   evidence -> rows and forms
"""

from proxy.evidence.layout import Attachment, NotEvidence, digest_of, inline, kept, mac_of, named
from proxy.evidence.reading import Noted, read
from proxy.evidence.witness import Shapes, Witness

__all__ = [
    "Attachment", "NotEvidence", "Noted", "Shapes", "Witness", "digest_of", "inline", "kept", "mac_of",
    "named", "read",
]  # fmt: skip
