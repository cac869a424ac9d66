"""Who may connect to whom under a set of NetworkPolicies, as Kubernetes reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.charts import Manifest, selects

Labels = Mapping[str, str]


def may_connect(
    policies: list[Manifest], source: Labels | None, target: Labels | None, port: int
) -> bool:
    """Whether a TCP connection is allowed, at both ends.

    Args:
        policies: All NetworkPolicies of the namespace.
        source: The labels of the pod that connects; None is something outside.
        target: The labels of the pod that is connected to; None is something outside.
        port: The target's port.
    """
    return _allowed(policies, "Egress", source, target, port) and _allowed(
        policies, "Ingress", target, source, port
    )


def _allowed(
    policies: list[Manifest], direction: str, at: Labels | None, peer: Labels | None, port: int
) -> bool:
    if at is None:
        return True
    specs = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], at)
    ]
    # A pod that no policy selects may do everything.
    return not specs or any(
        _matches(rule, direction, peer, port)
        for spec in specs
        for rule in spec.get(direction.lower(), [])
    )


def _matches(rule: Mapping[str, Any], direction: str, peer: Labels | None, port: int) -> bool:
    ports = [found["port"] for found in rule.get("ports", []) if found.get("protocol") != "UDP"]
    peers = rule.get("to" if direction == "Egress" else "from")
    return (not rule.get("ports") or port in ports) and (
        not peers or any(_is_peer(found, peer) for found in peers)
    )


def _is_peer(rule: Mapping[str, Any], peer: Labels | None) -> bool:
    if "ipBlock" in rule:
        return peer is None
    # Without a namespace selector it means pods of the same namespace.
    return peer is not None and "podSelector" in rule and selects(rule["podSelector"], peer)
