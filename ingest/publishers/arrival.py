"""Messages of publishers on their way into the inbox, and how one that comes again is known."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# A broker repeats only what it has not seen acknowledged: no more than its window, a thousand or so, and it gives a
# packet number anew after 65,535 others.
MQTT, HTTP = "mqtt", "http"
KEPT = {MQTT: 10_000, HTTP: 50_000}
KEPT_MS = 24 * 3_600_000  # for so long a body sent again over HTTP is the same delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message taken: by ``token`` its source would call it when it sends it again; ``digest`` is of its bytes."""

    source: str  # MQTT | HTTP
    token: str
    digest: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message offered to the intake.

    ``header`` is kept beside it. Without a ``delivery`` it cannot be known when it comes again; with one it is looked
    up when it ``may_be_repeated``. ``is_stale`` tells that its connection was given up: what comes first on the next
    one must be taken first. ``done`` is told, after the commit, what became of it.
    """

    topic: str
    payload: bytes
    header: str
    received_ms: int
    done: Callable[[str], None]  # an ``Outcome``
    delivery: Delivery | None = None
    may_be_repeated: bool = False
    is_stale: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class SessionBegins:
    """A source has no memory of what it sent before."""

    source: str


class Recent:
    """What was lately taken, by source and token; bounded."""

    def __init__(self, known: Iterable[Delivery]) -> None:
        self._by_source: dict[str, OrderedDict[str, Delivery]] = {s: OrderedDict() for s in KEPT}
        self.take(list(known), ())

    def like(
        self, delivery: Delivery, staged: Sequence[Delivery], sessions_begun: Sequence[str]
    ) -> Delivery | None:
        """Return what was taken under the same token, or is about to be."""
        for other in reversed(staged):
            if (other.source, other.token) == (delivery.source, delivery.token):
                return other
        if delivery.source in sessions_begun:
            return None
        found = self._by_source[delivery.source].get(delivery.token)
        if (
            found is not None
            and delivery.source == HTTP
            and delivery.received_ms - found.received_ms > KEPT_MS
        ):
            return None
        return found

    def take(self, deliveries: Sequence[Delivery], sessions_begun: Sequence[str]) -> None:
        """Remember what was committed; of a session that has begun nothing before it."""
        for source in sessions_begun:
            self._by_source[source].clear()
        for delivery in deliveries:
            held = self._by_source[delivery.source]
            held.pop(delivery.token, None)
            held[delivery.token] = delivery
            while len(held) > KEPT[delivery.source]:
                held.popitem(last=False)
