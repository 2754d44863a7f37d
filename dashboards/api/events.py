"""The live stream: rows of the events table as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from dashboards.api.errors import documented_json
from dashboards.api.packs import MAX_ID
from dashboards.live import EventTail

RETRY_MS = 1000

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    summary="The live stream",
    response_class=EventSourceResponse,
    response_description="`id:` is the event's number, `event:` its type (alert, test, station, "
    "delivery, link), `data:` JSON with at_ms, type, station, alert_id and the fields of the type",
    responses=documented_json(401, 403, 422),
)
async def live(
    request: Request,
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, le=MAX_ID, description="Go on after this event"),
    ] = None,
    after: Annotated[
        int | None,
        Query(alias="last_event_id", ge=0, le=MAX_ID, description="The same, for a first request"),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Send events from the newest on, or without a gap from the one that the client saw last."""
    tail = request.app.state.tail
    if not isinstance(tail, EventTail):
        raise TypeError("app.state.tail must be EventTail")
    newest = await tail.newest()
    last = after if last_event_id is None else last_event_id
    if last is None or last > newest:  # a number from before the database was made anew
        last = newest
    # The number alone, no data: a client cut off before its first event still resumes from here.
    yield ServerSentEvent(id=str(last), retry=RETRY_MS)
    while page := await tail.after(last):
        for event in page:
            yield ServerSentEvent(id=str(event.id), event=event.type, raw_data=event.data)
        last = page[-1].id
