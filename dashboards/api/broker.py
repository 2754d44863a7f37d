"""What the broker's password file and revocation list are made of."""

from fastapi import APIRouter
from pydantic import Field

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import documented
from dashboards.api.models import Shape
from ingest.registry import credentials

# Hashes of passwords: for a key only, from wherever the caller comes.
writing = APIRouter(tags=["broker"])


class BrokerCredential(Shape):
    """One name that the broker lets in."""

    username: str
    password_hash: str = Field(description="As in mosquitto's password file: `$7$`, PBKDF2-SHA512")


class BrokerCredentials(Shape):
    """Everybody whom the broker lets in, and the certificates that it refuses."""

    credentials: list[BrokerCredential]
    revoked_serials: list[str] = Field(description="Hexadecimal")


@writing.get(
    "/broker/credentials",
    summary="Credentials for the broker",
    responses=documented(401, 403, 422),
)
def broker_credentials(sources: SourcesOf, _key: Writer) -> BrokerCredentials:
    """Return the stations' credentials; `agrigate deploy mosquitto` writes the broker's files from them."""
    with sources.operational.read() as connection:
        standing = credentials.standing(connection)
        revoked = credentials.revoked_serials(connection)
    return BrokerCredentials(
        credentials=[
            BrokerCredential(username=one.username, password_hash=one.password_hash)
            for one in standing
        ],
        revoked_serials=list(revoked),
    )
