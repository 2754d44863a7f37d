"""Backups of the running server."""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import Field, StringConstraints

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import WRITING
from dashboards.api.models import Ms, Shape
from dashboards.api.strict import StrictRoute
from ingest.backup import BackupBusyError, BackupError

writing = APIRouter(tags=["backup"], route_class=StrictRoute)


class BackupOrder(Shape):
    """Where a backup is to be written."""

    directory: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="New directory on the server: below backup_dir, or relative to it"
    )


class BackupWritten(Shape):
    """A backup that is whole."""

    directory: str
    made_ms: Ms
    files: int
    size: int = Field(description="Bytes")
    counts: dict[str, int] = Field(description="Rows by kind")


@writing.post("/backup", summary="Write a backup", status_code=201, responses=WRITING)
def write_backup(body: BackupOrder, sources: SourcesOf, _key: Writer) -> BackupWritten:
    """Copy all data into a new directory below ``backup_dir`` while taking goes on; answers when it is whole."""
    if sources.back_up is None:
        raise HTTPException(409, "this server writes no backups")
    try:
        manifest = sources.back_up(body.directory)
    except BackupBusyError as exc:
        raise HTTPException(409, str(exc)) from exc
    except BackupError as exc:
        raise HTTPException(422, str(exc)) from exc
    return BackupWritten(
        directory=body.directory,
        made_ms=manifest.made_ms,
        files=len(manifest.files),
        size=sum(kept.size for kept in manifest.files),
        counts=manifest.counts,
    )
