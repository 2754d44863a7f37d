from __future__ import annotations


async def test_catalogue_is_complete(client):
    rows = {
        row["code"]: row for row in (await client.get("/api/v1/indicators")).json()["indicators"]
    }
    assert rows["soil_ph"] == {
        "code": "soil_ph",
        "name_zh": "土壤pH值",
        "name_en": "Soil pH",
        "medium": "soil",
        "unit": "[pH]",
        "decimals": 2,
    }
    assert len(rows) >= 180
