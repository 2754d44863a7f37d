"""Every body that a transition makes answers to the published schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import sqlalchemy as sa

from alerts.actions import acknowledge, dismiss
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.signing import new_secret
from alerts.raising import AlertRaiser
from alerts.tables import alerts, outbox
from dashboards.schemas import published

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operational import Operational


def test_bodies_answer_to_their_schema(
    operational: Operational, judge: Callable, finding: Callable, screening: Callable
) -> None:
    row = WebhookEndpoint("e0", "E", "http://127.0.0.1:1/", new_secret(), allow_http=True)
    sync_endpoints(operational, [row], 0)
    judge(AlertRaiser(), [finding(), finding(severity="critical", value=11.0), screening()])
    with operational.read() as connection:
        sensor = sa.select(alerts.c.alert_id).where(alerts.c.certainty == "sensor")
        alert_id = str(connection.scalar(sensor))
    acknowledge(operational, alert_id, "李四")
    dismiss(operational, alert_id, "李四", "探头进水")
    with operational.read() as connection:
        bodies = [json.loads(body) for body in connection.scalars(sa.select(outbox.c.body))]
    assert {body["type"] for body in bodies} >= {"alert.suspected", "alert.dismissed"}
    validator = jsonschema.Draft202012Validator(published()["alert.v1"])
    for body in bodies:
        validator.validate(body)
        assert len(json.dumps(body, ensure_ascii=False).encode()) < 20_000
