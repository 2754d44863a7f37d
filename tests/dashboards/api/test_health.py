from __future__ import annotations


async def test_healthz_answers(client):
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_readyz_names_what_is_missing(county, client):
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    county.reasons += ["broker: not connected", "store: down"]
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"detail": "broker: not connected; store: down"}


async def test_metrics_are_prometheus_text(client):
    response = await client.get("/metrics")
    assert response.text == "agrigate_packs_taken_total 7\n"
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_of_a_public_server_need_a_key(county, connect, key):
    async with connect(county.app(loopback_only_reads=False)) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (
            await client.get("/metrics", headers={"Authorization": f"Bearer {key}"})
        ).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
