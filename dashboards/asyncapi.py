"""The edge link as an AsyncAPI 3.0 document, from the agent's point of view."""

from __future__ import annotations

from gateway import wire
from ingest.publishers.address import Channel

VERSION = "1.0.0"
BINDING = "0.2.0"  # of the MQTT binding
# As in gateway/uplink.py, which a server without the edge's packages cannot import.
QOS = 1
KEEPALIVE_S = 30

_DESCRIPTION = """How an edge agent delivers readings and rapid tests. Described is the agent: it sends packs and its
status and receives receipts. A PUBACK means nothing; a pack is delivered when a receipt of its epoch covers its seq.
Every station has a broker account that may write its own up and status and read its own ack; only the server's may
write ack. docs/link-format.md has the rules of sending, receipting and resending."""


def asyncapi() -> dict[str, object]:
    """Return the document; it refers to the schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Agrigate edge link",
            "version": VERSION,
            "description": " ".join(_DESCRIPTION.split()),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "127.0.0.1:1883",
                "protocol": "mqtt",
                "protocolVersion": "3.1.1",
                "description": "The county's broker.",
                "security": [{"type": "userPassword"}],
                "bindings": {
                    "mqtt": {
                        "clientId": "agri-{station}",
                        "cleanSession": True,
                        "keepAlive": KEEPALIVE_S,
                        "lastWill": {
                            "topic": wire.topic("{station}", "status"),
                            "qos": QOS,
                            "retain": True,
                            "message": '{"online":false,"session":"…"}',
                        },
                        "bindingVersion": BINDING,
                    }
                },
            }
        },
        "channels": {
            "senml": _of_publishers(
                Channel.SENML,
                "Readings as SenML JSON (RFC 8428) of a device that knows nothing of packs.",
            ),
            "raw": _of_publishers(
                Channel.RAW,
                "A vendor's own JSON, read by a [[mapping]] of the server's configuration.",
            ),
            "up": _channel("up", "Packs. Only the station's agent may publish here.", ["pack"]),
            "ack": _channel("ack", "Receipts. Only the server may publish here.", ["receipt"]),
            "status": _channel(
                "status",
                "What the agent says of itself. Only the station's agent may publish here, and the broker its will.",
                ["status", "will"],
            ),
        },
        "operations": {
            "sendSenml": _operation(
                "send", "senml", ["senml"], "Deliver readings without an agent."
            ),
            "sendRaw": _operation("send", "raw", ["raw"], "Deliver what a mapping reads."),
            "sendPack": _operation(
                "send", "up", ["pack"], "Deliver readings, tests, or what was lost."
            ),
            "receiveReceipt": _operation(
                "receive", "ack", ["receipt"], "Learn what the server has on its disk."
            ),
            "sendStatus": _operation(
                "send",
                "status",
                ["status", "will"],
                "At each connect and every 60 s; the will is the broker's to send.",
                retain=True,
            ),
        },
        "components": {
            "messages": {
                "pack": {
                    "name": "pack",
                    "title": "Pack",
                    "contentType": "application/octet-stream",
                    "summary": "One ASCII header line, LF, then a body of UTF-8 JSON.",
                    "description": "The payload is described in two parts: x-header-line is the text before the first"
                    " LF, payload the JSON after it. The header has the body's length and hash;"
                    f" a body has at most {wire.MAX_BODY_BYTES} bytes.",
                    "x-header-line": {"$ref": "schemas/pack-header.json"},
                    "payload": {"$ref": "schemas/pack-body.json"},
                },
                "senml": {
                    "name": "senml",
                    "title": "SenML",
                    "contentType": "application/senml+json",
                    "summary": "A SenML pack; the broker's PUBACK is all the answer there is.",
                    "payload": {"type": "array", "items": {"type": "object"}},
                },
                "raw": {
                    "name": "raw",
                    "title": "Vendor's message",
                    "contentType": "application/json",
                    "summary": "Any JSON that a mapping reads.",
                    "payload": {},
                },
                "receipt": _message(
                    "receipt", "Every pack of epoch up to seq is on the server's disk."
                ),
                "status": _message("status", "A signed status."),
                "will": _message("will", "The agent is gone; published by the broker."),
            }
        },
    }


def _channel(leaf: str, description: str, messages: list[str]) -> dict[str, object]:
    return {
        "address": wire.topic("{station}", leaf),
        "description": description,
        "parameters": {
            "station": {"description": f"The station's code: {wire.STATION_CODE.pattern}"}
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _of_publishers(channel: Channel, description: str) -> dict[str, object]:
    told = {
        "station": {"description": f"The station's code: {wire.STATION_CODE.pattern}"},
        "device": {"description": "The device's path; it may have several levels"},
    }
    found = _channel(channel, description, [str(channel)])
    return found | {"address": f"{wire.topic('{station}', channel)}/{{device}}", "parameters": told}


def _operation(
    action: str, channel: str, messages: list[str], summary: str, *, retain: bool = False
) -> dict[str, object]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": QOS, "retain": retain, "bindingVersion": BINDING}},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _message(name: str, summary: str) -> dict[str, object]:
    return {
        "name": name,
        "title": name.capitalize(),
        "contentType": "application/json",
        "summary": summary,
        "payload": {"$ref": f"schemas/{name}.json"},
    }
