"""Errors of alerting.

AlertError
├── IllegalTransition   the state machine forbids it; lists what is legal
├── StaleAlert          somebody else changed the alert first (optimistic lock on ``seq``)
├── UnknownAlert        no alert has this id
└── VerificationError   a webhook's signature, time or headers are wrong
"""

from __future__ import annotations


class AlertError(Exception):
    """Base of all alerting errors."""


class IllegalTransition(AlertError):  # noqa: N818 - named after what happened, as the specification does
    """A transition that the table does not allow; ``legal`` names the triggers that it does."""

    def __init__(self, state: str, trigger: str, legal: tuple[str, ...], reason: str = "") -> None:
        allowed = ", ".join(legal) or "none"
        why = f": {reason}" if reason else ""
        super().__init__(
            f"'{trigger}' is not legal for an alert in state '{state}'{why}; legal: {allowed}"
        )
        self.state = state
        self.trigger = trigger
        self.legal = legal
        self.reason = reason


class StaleAlert(AlertError):  # noqa: N818
    """The alert is no longer at the ``seq`` that the change was based on; read it again."""

    def __init__(self, alert_id: str, seq: int) -> None:
        super().__init__(f"alert {alert_id} is no longer at seq {seq}; read it again")
        self.alert_id = alert_id
        self.seq = seq


class UnknownAlert(AlertError):  # noqa: N818
    """No alert has this id."""

    def __init__(self, alert_id: str) -> None:
        super().__init__(f"no alert {alert_id!r}")
        self.alert_id = alert_id


class VerificationError(AlertError):
    """A webhook that must not be trusted: wrong or missing signature, time or headers."""
