"""Who may read and who may write."""

import ipaddress
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from dashboards.keys import ApiKey, check_key
from dashboards.sources import Health, Sources

# A header that a proxy adds says that the request came from somewhere else, whatever its address.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

_header = APIKeyHeader(
    name="X-API-Key",
    auto_error=False,
    description="Key made by the server; needed for every write.",
)
_bearer = HTTPBearer(auto_error=False, description="The same key as a bearer token.")


def sources_of(request: Request) -> Sources:
    """Return what the application was built with."""
    sources = request.app.state.sources
    if not isinstance(sources, Sources):
        raise TypeError("app.state.sources must be Sources")
    return sources


def health_of(request: Request) -> Health:
    """Return what every role has of it."""
    health = request.app.state.sources
    if not isinstance(health, Health):
        raise TypeError("app.state.sources must be Health")
    return health


SourcesOf = Annotated[Sources, Depends(sources_of)]
HealthOf = Annotated[Health, Depends(health_of)]


def is_loopback(name: str) -> bool:
    """Tell whether a host name or address means this machine.

    >>> [is_loopback(name) for name in ("127.0.0.1", "::1", "localhost", "localhost.evil.example")]
    [True, True, True, False]
    """
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name in a Host header, without port and brackets.

    >>> host_name("[::1]:8080"), host_name("localhost:8080"), host_name("::1")
    ('::1', 'localhost', '')
    """
    if header.startswith("["):
        name, _, rest = header[1:].partition("]")
    else:
        name, colon, port = header.partition(":")
        rest = colon + port
    if rest and not (rest[0] == ":" and rest[1:].isdigit()):
        return ""
    return name


def caller(
    sources: HealthOf,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> ApiKey | None:
    """Return whose key came with the request, None without one; 401 for a key that is nobody's."""
    text = header or (bearer.credentials if bearer else None)
    if text is None:
        return None
    key = check_key(sources.operational, text)
    if key is None:
        raise _unauthorized("this API key is not valid")
    return key


Caller = Annotated[ApiKey | None, Depends(caller)]


def reader(request: Request, sources: HealthOf, key: Caller) -> None:
    """Let pass a valid key, or a request of this very machine while the server is bound to loopback."""
    if key is not None:
        return
    if not sources.loopback_only_reads:
        raise _unauthorized("this server is reachable from outside: reading needs X-API-Key")
    if request.client is None or not is_loopback(request.client.host):
        raise HTTPException(403, "reading without X-API-Key is only for this machine")
    if any(name in request.headers for name in _FORWARDED):
        raise HTTPException(403, "reading through a proxy needs X-API-Key")
    # A page of another site can make its own name resolve to 127.0.0.1; the browser still names that site here.
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not is_loopback(host_name(hosts[0])):
        raise HTTPException(403, "the Host header must be localhost or a loopback address")


def writer(key: Caller) -> ApiKey:
    """Let pass a valid key only."""
    if key is None:
        raise _unauthorized("writing needs X-API-Key")
    return key


Writer = Annotated[ApiKey, Depends(writer)]


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
