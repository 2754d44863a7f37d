from __future__ import annotations

import pytest

from dashboards.app import create_app


@pytest.fixture
def static(tmp_path):
    (tmp_path / "static" / "assets").mkdir(parents=True)
    (tmp_path / "static" / "index.html").write_text(
        "<!doctype html><title>农情</title>", encoding="utf-8"
    )
    (tmp_path / "static" / "assets" / "app-1a2b3c.js").write_text("let x;")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "static"


@pytest.fixture
async def pages(county, connect, static):
    async with connect(create_app(county.sources, static=static)) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/", "/stations/hl-001", "/tests", "/alerts", "/alerts/01JDWZ0000000000000000000Z"]
)
async def test_addresses_of_the_client_get_the_document(pages, path):
    response = await pages.get(path)
    assert response.status_code == 200
    assert "农情" in response.text
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["cache-control"] == "no-cache"


async def test_assets_are_kept_for_long(pages):
    response = await pages.get("/assets/app-1a2b3c.js")
    assert response.text == "let x;"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await pages.get(
        "/assets/app-1a2b3c.js", headers={"If-None-Match": response.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/assets/gone.js", "/favicon.ico", "/%2e%2e/secret.txt", "/..%2fsecret.txt"]
)
async def test_missing_files_are_404_in_words_of_the_api(pages, path):
    response = await pages.get(path)
    assert response.status_code == 404
    assert "secret" not in response.text
    assert list(response.json()) == ["detail"]
    assert "immutable" not in response.headers["cache-control"]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api", "/api/v2/overview", "/metrics/x"])
async def test_unknown_api_addresses_are_no_pages(pages, path):
    response = await pages.get(path)
    assert response.status_code == 404
    assert path in response.json()["detail"]


async def test_writing_to_a_reading_address_is_405(pages):
    response = await pages.post("/api/v1/overview")
    assert response.status_code in {404, 405}
    assert list(response.json()) == ["detail"]


async def test_every_answer_forbids_other_hosts(pages):
    for path in ("/", "/api/v1/overview", "/api/v1/nothing", "/assets/app-1a2b3c.js"):
        headers = (await pages.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert (await pages.get("/api/v1/overview")).headers["cache-control"] == "no-store"


async def test_missing_build_is_said_with_the_command(county, connect, tmp_path):
    async with connect(create_app(county.sources, static=tmp_path / "none")) as client:
        for path in ("/", "/alerts"):
            response = await client.get(path)
            assert response.status_code == 503
            assert "make web" in response.text
        assert (await client.get("/api/v1/overview")).status_code == 200
