from __future__ import annotations

import json

import pytest
from fastapi.routing import APIRoute

from dashboards.app import bare_app
from dashboards.openapi import openapi_json

DOCUMENT = json.loads(openapi_json())
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
INTERFACES = [
    "/api/v1/overview",
    "/api/v1/stations",
    "/api/v1/stations/{code}",
    "/api/v1/readings",
    "/api/v1/tests",
    "/api/v1/tests/{record_id}/sample",
    "/api/v1/alerts",
    "/api/v1/alerts/{alert_id}",
    "/api/v1/alerts/{alert_id}/case",
    "/api/v1/alerts/{alert_id}/decisions",
    "/api/v1/alerts/{alert_id}/transitions",
    "/api/v1/alerts/{alert_id}/evidence.zip",
    "/api/v1/evidence-keys",
    "/api/v1/messages",
    "/api/v1/policies",
    "/api/v1/policies/check",
    "/api/v1/policies/{policy_id}",
    "/api/v1/silences",
    "/api/v1/silences/{silence_id}",
    "/api/v1/statistics/false-alarms",
    "/api/v1/targets",
    "/api/v1/targets/{target_id}",
    "/api/v1/targets/{target_id}/test",
    "/api/v1/alerts/{alert_id}/case/steps",
    "/api/v1/alerts/{alert_id}/deliveries",
    "/api/v1/clocks",
    "/api/v1/laboratory/import",
    "/api/v1/laboratory/reports",
    "/api/v1/laboratory/template.xlsx",
    "/api/v1/records/{record_id}/withdraw",
    "/api/v1/alerts/{alert_id}/ack",
    "/api/v1/alerts/{alert_id}/dismiss",
    "/api/v1/stations/{code}/keys/approve",
    "/api/v1/stations/{code}/keys/refuse",
    "/api/v1/stations/{code}/keys/replace",
    "/api/v1/packs/{station}/{epoch}/{seq}",
    "/api/v1/quarantine",
    "/api/v1/backup",
    "/api/v1/records",
    "/api/v1/stations/{code}/record-keys",
    "/api/v1/stations/{code}/record-keys/{key_id}",
    "/api/v1/broker/credentials",
    "/api/v1/indicators",
    "/api/v1/limits",
    "/api/v1/limits/in-force",
    "/api/v1/limits/names",
    "/api/v1/plots",
    "/api/v1/stations/{code}/windows",
    "/api/v1/stations/{code}/windows/{window_id}",
    "/api/v1/events",
    "/api/v1/endpoints",
    "/api/v1/endpoints/{endpoint_id}",
    "/api/v1/endpoints/{endpoint_id}/deliveries",
    "/api/v1/endpoints/{endpoint_id}/verify",
    "/api/v1/endpoints/{endpoint_id}/test",
    "/api/v1/endpoints/{endpoint_id}/rotate",
    "/api/v1/endpoints/{endpoint_id}/keys/{key_id}",
    "/api/v1/endpoints/{endpoint_id}/suspend",
    "/api/v1/endpoints/{endpoint_id}/resume",
    "/api/v1/endpoints/{endpoint_id}/replay",
    "/api/v1/webhook-keys",
    "/api/v1/receipts",
    "/api/v1/schemas",
    "/api/v1/schemas/{name}",
    "/healthz",
    "/readyz",
    "/metrics",
]


def test_paths_are_those_agreed():
    assert set(DOCUMENT["paths"]) == set(INTERFACES)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_operation_is_described_with_its_replies(path, method, operation):
    assert operation["summary"]
    assert operation["description"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), parameter["name"]
    [good] = {"200", "201", "204"} & set(operation["responses"])
    for content in operation["responses"][good].get("content", {}).values():
        schema = content.get("schema") or content["itemSchema"]
        assert schema
    if path.startswith("/api/"):
        assert operation["security"]
        refusals = {"401", "422"} | ({"403"} if method == "get" else {"404", "409", "413"})
        assert refusals <= set(operation["responses"])
    for status, reply in operation["responses"].items():
        if status != good:
            assert reply["description"]
            assert reply["content"] == {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}
            }


def test_every_reference_resolves_and_every_schema_is_described():
    schemas = DOCUMENT["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    assert {reference.rpartition("/")[2] for reference in references(DOCUMENT)} <= set(schemas)
    assert all(schema.get("description") for schema in schemas.values())
    assert "HTTPValidationError" not in schemas


async def test_server_offers_the_same_document(client):
    assert (await client.get("/api/v1/openapi.json")).json() == DOCUMENT


async def test_pages_that_load_scripts_from_elsewhere_are_off(client):
    for path in ("/docs", "/redoc"):
        assert "swagger" not in (await client.get(path)).text


def test_no_route_is_left_out_of_the_document():
    hidden = [
        route
        for route in bare_app().routes
        if isinstance(route, APIRoute) and not route.include_in_schema
    ]
    assert not hidden
