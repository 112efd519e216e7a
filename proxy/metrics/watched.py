"""All that the table of metrics is read of."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.alarms.raised import Alarms
from proxy.alarms.webhook import Webhook
from proxy.audit.log import AccessLog
from proxy.audit.retaining import Retaining
from proxy.audit.verifying import SelfVerifying
from proxy.gateway import Gateway
from proxy.gateway.connections import Connections
from proxy.reload import PolicyInForce
from proxy.rotation import KeysInForce
from proxy.tls import TlsInForce
from proxy.traces.exporting import Exporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What is looked at."""

    policy: PolicyInForce
    keys: KeysInForce
    gateway: Gateway
    log: AccessLog
    retaining: Retaining
    verifying: SelfVerifying
    alarms: Alarms
    webhook: Webhook | None
    exporter: Exporter | None
    tls: TlsInForce
    connections: Connections
