"""Public halves of the keys that sign webhooks, those that have ended, too: old evidence stays verifiable."""

from fastapi import APIRouter
from sqlalchemy import select

from alerts.tables import endpoint_keys
from dashboards.access import SourcesOf, Writer
from dashboards.api.endpoint_shapes import KeyList
from dashboards.api.endpoints import key_row
from dashboards.api.errors import WRITING, documented

writing = APIRouter(tags=["endpoints"])


@writing.get(
    "/webhook-keys", summary="Public keys of webhooks", responses=WRITING | documented(403)
)
def webhook_keys(sources: SourcesOf, _key: Writer) -> KeyList:
    """Return every ed25519 key with its times; needs X-API-Key, from this machine, too."""
    query = (
        select(endpoint_keys).where(endpoint_keys.c.kind == "ed25519").order_by(endpoint_keys.c.id)
    )
    with sources.operational.read() as connection:
        rows = connection.execute(query).mappings().all()
    return KeyList(keys=[key_row(row) for row in rows])
