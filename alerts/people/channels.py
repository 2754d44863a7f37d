"""How a message reaches a target: one way for each kind, one result for all."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts.delivery.guard import place_of
from alerts.delivery.posting import Poster, PostLimits
from alerts.people import best_effort, mail, robots
from alerts.people.kinds import BestEffort, Mail
from alerts.people.robots import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from alerts.delivery.guard import Guard
    from alerts.people.document import Document
    from alerts.people.kinds import Robot
    from alerts.people.targets import Target

_LIMITS = PostLimits(connect_s=5.0, total_s=15.0)
_SLOW_S = 120.0  # a mail server may be slow at every step
_CONTENT_TYPE = {"content-type": "application/json; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Channels:
    """The ways to people; ``executor`` runs what blocks (mail, Apprise)."""

    guard: Guard
    now_ms: Callable[[], int]
    executor: Executor

    async def send(self, target: Target, document: Document, message_id: str) -> Outcome:
        """Send once and return how it ended; never raises for what a target or the network does."""
        settings = target.settings
        try:
            if isinstance(settings, Mail):
                at = dt.datetime.fromtimestamp(self.now_ms() / 1000, dt.UTC)
                letter = mail.letter(settings, document, message_id, at)
                return await self._blocking(
                    lambda: mail.send(settings, letter, self.guard, trusted=target.trusted)
                )
            if isinstance(settings, BestEffort):
                return await self._blocking(lambda: best_effort.send(settings, document))
            return await self._robot(target, settings, document)
        except ValueError as exc:
            return Outcome(delivered=False, error=f"the settings cannot be used: {exc}")

    async def _blocking(self, send: Callable[[], Outcome]) -> Outcome:
        try:
            async with asyncio.timeout(_SLOW_S):
                return await asyncio.get_running_loop().run_in_executor(self.executor, send)
        except TimeoutError:
            return Outcome(delivered=False, error=f"not done after {_SLOW_S:g} s")

    async def _robot(self, target: Target, settings: Robot, document: Document) -> Outcome:
        request = robots.request(target.kind, settings, document, self.now_ms())
        place = place_of(request.url, allow_http=settings.allow_http)
        poster = Poster(place, self.guard, trusted=target.trusted, connections=1, limits=_LIMITS)
        try:
            answer = await poster.post(request.body, _CONTENT_TYPE, self.now_ms)
        finally:
            await poster.close()
        return robots.outcome(target.kind, answer)
