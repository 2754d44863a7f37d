"""Other targets by Apprise: best effort. Its plugins mostly read no code in an answer, so "sent" proves little."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

from alerts.people.robots import Outcome

if TYPE_CHECKING:
    from alerts.people.document import Document
    from alerts.people.kinds import BestEffort

NOT_INSTALLED = "apprise is not installed: pip install 'agrigate[notify]'"
_REFUSED = "apprise did not get it sent; it does not say why"
_NO_ADDRESS = "apprise does not know this address"


class _Apprise(Protocol):
    def add(self, servers: str) -> bool: ...

    def notify(self, *, body: str, title: str) -> bool | None: ...


def send(settings: BestEffort, document: Document) -> Outcome:
    """Hand the message to Apprise, blocking."""
    try:
        made = cast("_Apprise", importlib.import_module("apprise").Apprise())
    except ModuleNotFoundError:
        return Outcome(delivered=False, error=NOT_INSTALLED)
    try:
        if not made.add(settings.url):
            return Outcome(delivered=False, error=_NO_ADDRESS)
        sent = made.notify(body=document.plain(), title=document.title)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as exc:
        return Outcome(delivered=False, error=f"apprise failed: {type(exc).__name__}")
    return Outcome(delivered=True) if sent else Outcome(delivered=False, error=_REFUSED)
