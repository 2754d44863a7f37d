"""``POST /api/v1/backup``."""

from __future__ import annotations

from ingest.backup import BackupBusyError, BackupError, Kept, Manifest

MANIFEST = Manifest(
    format=1,
    made_ms=5,
    files=[Kept("inbox.db", 7, ""), Kept("pki/ca.key", 3, "")],
    inbox_schema=2,
    store_schema=1,
    operational_revision="0001",
    inbox_pos=9,
    judge_cursor=9,
    store_cursor=8,
    counts={"packs": 9},
)


async def test_it_needs_a_key(client):
    assert (await client.post("/api/v1/backup", json={"directory": "x"})).status_code == 401


async def test_it_says_what_was_written(county, connect, key):
    asked = []

    def back_up(directory: str) -> Manifest:
        asked.append(directory)
        return MANIFEST

    async with connect(county.app(back_up=back_up)) as client:
        reply = await client.post(
            "/api/v1/backup", json={"directory": "monday"}, headers={"X-API-Key": key}
        )
    assert reply.status_code == 201
    assert reply.json() == {
        "directory": "monday",
        "made_ms": 5,
        "files": 2,
        "size": 10,
        "counts": {"packs": 9},
    }
    assert asked == ["monday"]


async def test_what_cannot_be_done_is_said(county, connect, key):
    for error, status in ((BackupBusyError("wait"), 409), (BackupError("outside"), 422)):

        def back_up(_directory: str, error: BackupError = error) -> Manifest:
            raise error

        async with connect(county.app(back_up=back_up)) as client:
            reply = await client.post(
                "/api/v1/backup", json={"directory": "x"}, headers={"X-API-Key": key}
            )
        assert (reply.status_code, reply.json()) == (status, {"detail": str(error)})
