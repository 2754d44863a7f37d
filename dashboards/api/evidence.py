"""Evidence packs of alerts, and the keys that sign them."""

from importlib import metadata

from fastapi import APIRouter, Response

from alerts.errors import UnknownAlert
from alerts.evidence.gather import evidence_pack
from alerts.evidence.keys import EvidenceKeyError
from dashboards.access import SourcesOf
from dashboards.api.alerts import AlertId
from dashboards.api.errors import READING, documented_json
from dashboards.api.models import Ms, Shape
from dashboards.api.problems import Problem

ZIP = "application/zip"

router = APIRouter(tags=["evidence"])


class EvidenceKeyRow(Shape):
    """A public key."""

    id: str
    made_ms: Ms
    current: bool
    public_pem: str


class EvidenceKeyList(Shape):
    """Every key that has signed packs, the oldest first."""

    keys: list[EvidenceKeyRow]


@router.get(
    "/alerts/{alert_id}/evidence.zip",
    summary="Evidence pack of an alert, signed",
    responses=documented_json(401, 403, 404, 409, 422)
    | {200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}}},
    response_class=Response,
)
def evidence_zip(alert_id: AlertId, sources: SourcesOf) -> Response:
    """Return a zip of records, raw bytes, limit, chart, log and deliveries with a signed manifest of hashes."""
    if sources.evidence_keys is None:
        raise Problem(409, "this server signs no evidence: it runs without a data directory")
    try:
        content = evidence_pack(
            sources.operational,
            sources.inbox,
            sources.readings,
            alert_id,
            sources.evidence_keys.current(),
            now_ms=sources.now_ms(),
            product=_product(),
        )
    except UnknownAlert as exc:
        raise Problem(404, str(exc)) from exc
    except EvidenceKeyError as exc:
        raise Problem(409, str(exc)) from exc
    return Response(
        content,
        media_type=ZIP,
        headers={"content-disposition": f'attachment; filename="evidence-{alert_id}.zip"'},
    )


@router.get("/evidence-keys", summary="Public keys of evidence packs", responses=READING)
def key_list(sources: SourcesOf) -> EvidenceKeyList:
    """Return the public keys, those before a rotation too: what they signed stays verifiable."""
    if sources.evidence_keys is None:
        return EvidenceKeyList(keys=[])
    current = sources.evidence_keys.current()
    return EvidenceKeyList(
        keys=[
            EvidenceKeyRow(
                id=key.id,
                made_ms=key.made_ms,
                current=key.id == current.id,
                public_pem=key.public_pem(),
            )
            for key in sources.evidence_keys.all()
        ]
    )


def _product() -> str:
    try:
        return f"agrigate/{metadata.version('agrigate')}"
    except metadata.PackageNotFoundError:
        return "agrigate"
