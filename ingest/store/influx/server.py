"""One InfluxDB over HTTP: lines in, rows out, every answer that is no success an error of ``errors.py``."""

from __future__ import annotations

import re
import threading
import time
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import structlog
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException

from ingest.store.influx.errors import (
    InfluxError,
    RefusedError,
    RejectedError,
    TooLargeError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from influxdb_client._sync.api_client import ApiClient

    from ingest.store.influx.login import InfluxLogin

log = structlog.get_logger()

Row = TypeVar("Row")

RETRY_AFTER_MAX_S = 600.0
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_LEVEL = 1  # the client's own is 9, at a tenth of the speed
_SAID_MAX = 300
_NO_SUCH = ("dbrp", "database not found", "retention policy not found", "bucket", "database")
_MINUS_ZERO = re.compile(rb"(?<=[\[,])-0(?=[,\]])")  # read as an integer it would lose its sign


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """One series of an answer: its tags when asked for by tag, and its rows."""

    tags: Mapping[str, str]
    rows: list[Row]


class _Series(msgspec.Struct, Generic[Row]):
    columns: list[str]
    values: list[Row]
    tags: dict[str, str] | None = None


class _Result(msgspec.Struct, Generic[Row]):
    series: list[_Series[Row]] = msgspec.field(default_factory=list)
    error: str = ""


class _Reply(msgspec.Struct, Generic[Row]):
    results: list[_Result[Row]] = msgspec.field(default_factory=list)
    error: str = ""


class _Said(msgspec.Struct):
    error: str = ""
    message: str = ""


@cache
def _decoder(row: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Reply[row])  # type: ignore[valid-type]


class InfluxServer:
    """Speaks to one server; safe to call from several threads."""

    def __init__(self, login: InfluxLogin) -> None:
        self.login = login
        self._client, self._api = _connected(login)
        self._renewing = threading.Lock()
        self._old = False  # no /api/v2/write there: a version 1 before 1.8

    def write(self, lines: bytes) -> None:
        """Write line protocol with times in milliseconds; raise InfluxError when it was not all stored."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.login.gzip:
            packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
            lines = packer.compress(lines) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        if not self._old:
            query = [
                ("org", self.login.org or "-"),
                ("bucket", self.login.wanted_bucket),
                ("precision", "ms"),
            ]
            try:
                self._call("POST", "/api/v2/write", query=query, headers=headers, body=lines)
            except _NoSuchPageError:
                self._old = True
            else:
                return
        query = [("db", self.login.asked_database), ("precision", "ms")]
        if self.login.retention_policy:
            query.append(("rp", self.login.retention_policy))
        try:
            self._call("POST", "/write", query=query, headers=headers, body=lines)
        except _NoSuchPageError as exc:
            self._old = False
            raise RefusedError(f"{self.login.url}: no InfluxDB answers there: {exc}") from exc

    def ask(self, statement: str, row: object) -> list[Table[Any]]:
        """Run one SELECT or SHOW and return its series with rows as ``row``, times in milliseconds."""
        query = [("db", self.login.asked_database), ("epoch", "ms"), ("chunked", "true")]
        if self.login.retention_policy:
            query.append(("rp", self.login.retention_policy))
        try:
            data = self._call("POST", "/query", query=query, form=[("q", statement)])
        except _NoSuchPageError as exc:
            raise RefusedError(f"{self.login.url}: no InfluxDB answers there: {exc}") from exc
        data = _MINUS_ZERO.sub(b"-0.0", data) if b"-0" in data else data
        try:
            replies: list[_Reply[Any]] = _decoder(row).decode_lines(data)
        except msgspec.DecodeError as exc:
            raise UnavailableError(f"{self.login.url}: an answer that is none: {exc}") from exc
        tables: list[Table[Any]] = []
        for reply in replies:
            self._check_result(reply.error)
            for result in reply.results:
                self._check_result(result.error)
                for series in result.series:
                    tags = series.tags or {}
                    if tables and tables[-1].tags == tags:  # it came in several chunks
                        tables[-1].rows.extend(series.values)
                    else:
                        tables.append(Table(tags, series.values))
        return tables

    def version(self) -> str:
        """Return the version that the server names, empty when it names none."""
        return self._ping().get("X-Influxdb-Version", "")

    def clock_ahead_s(self) -> float:
        """Return how far the server's clock is ahead of ours, to a second; 0 when it does not say."""
        told = self._ping().get("Date")
        return parsedate_to_datetime(told).timestamp() - time.time() if told else 0.0

    def _ping(self) -> Mapping[str, str]:
        try:
            _, _, headers = self._raw("GET", "/ping", [], {}, None, [])
        except _AnsweredError as exc:
            if exc.status in {401, 403, *range(500, 600)}:
                raise self._meaning(exc, "/ping") from exc
            raise RefusedError(f"{self.login.url}: no InfluxDB answers there: {exc}") from exc
        return headers

    def _has_another_secret(self, used: str) -> bool:
        """Tell whether token or password are others than those ``used``; they are read from their file again."""
        with self._renewing:
            if self.login.secret != used:
                return True
            if self.login.secret_file is None:
                return False
            try:
                secret = self.login.secret_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                return False
            if not secret or secret == used:
                return False
            old = self._client
            self.login = self.login.with_secret(secret)
            self._client, self._api = _connected(self.login)
            old.close()  # type: ignore[no-untyped-call]
            log.info("store_secret_read_again", server=self.login.place)
            return True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _check_result(self, error: str) -> None:
        if not error:
            return
        if "authoriz" in error:
            raise RefusedError(f"{self.login.place}: {error}; {_REMEDIES[403]}")
        if "not found" in error:
            raise RefusedError(f"{self.login.place}: {error}; {_REMEDIES[404]}")
        if any(word in error for word in ("timeout", "shutdown", "max-concurrent")):
            raise UnavailableError(f"{self.login.place}: {error}")
        raise RefusedError(f"{self.login.place}: {error}")

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]],
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        form: list[tuple[str, str]] | None = None,
    ) -> bytes:
        used = self.login.secret
        try:
            try:
                status, data, _ = self._raw(method, path, query, headers or {}, body, form or [])
            except _AnsweredError as exc:
                if exc.status != 401 or not self._has_another_secret(used):
                    raise
                status, data, _ = self._raw(method, path, query, headers or {}, body, form or [])
        except _AnsweredError as exc:
            raise self._meaning(exc, path) from exc
        if status == 200 and path.endswith(
            "write"
        ):  # 2.x answers 204; a proxy's page is no success
            raise RefusedError(f"{self.login.url}: no InfluxDB answers there")
        return data

    def _raw(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        headers: dict[str, str],
        body: bytes | None,
        form: list[tuple[str, str]],
    ) -> tuple[int, bytes, Mapping[str, str]]:
        if form:
            headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            reply = self._api.call_api(  # type: ignore[no-untyped-call]
                path,
                method,
                query_params=query,
                header_params=headers,
                body=body,
                post_params=form,
                _preload_content=False,
                _return_http_data_only=True,
            )
            data: bytes = reply.data
        except ApiException as exc:
            if not exc.status:
                raise RefusedError(
                    f"{self.login.url}: TLS failed: {_line(str(exc.reason))}; check ca_file and the host's name"
                ) from exc
            raise _AnsweredError(exc) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise UnavailableError(f"{self.login.url}: {_line(_cause(exc))}") from exc
        return reply.status, data, reply.headers

    def _meaning(self, answer: _AnsweredError, path: str) -> Exception:
        status, said, place = answer.status, answer.said, self.login.place
        match status:
            case 404 if not any(word in said.lower() for word in _NO_SUCH):
                return _NoSuchPageError(said or "404")
            case 401 | 403 | 404:
                return RefusedError(f"{place}: {status} {said}; {_REMEDIES[status]}")
            case 413:
                return TooLargeError(f"{place}: {said or 'request entity too large'}")
            case 429 | 500 | 502 | 503 | 504:
                if "timeout" in said and status == 500:
                    said = f"{said}; the server is overloaded"
                return UnavailableError(
                    f"{place}: {status} {said}", retry_after_s=answer.retry_after_s
                )
            case 400 | 422 if path.endswith("write"):
                return RejectedError(said or str(status))
            case 400 | 422:
                return RefusedError(f"{place}: {said}")
            case _ if status >= 500:
                return UnavailableError(f"{place}: {status} {said}")
            case _:
                return RefusedError(
                    f"{place}: {status} {said}; is an InfluxDB behind that address?"
                )


def _connected(login: InfluxLogin) -> tuple[InfluxDBClient, ApiClient]:
    by_user = bool(login.username)
    client = InfluxDBClient(
        url=login.url,
        token=f"{login.username}:{login.password}" if by_user else login.token,
        org=login.org or "-",
        timeout=int(login.timeout_s * 1000),
        ssl_ca_cert=str(login.ca_file) if login.ca_file is not None else None,
        auth_basic=by_user,  # 1.6 knows no "Token user:password", and all of 1 know this
    )
    return client, client.api_client


_REMEDIES = {
    401: "the token or password is wrong: put the right one into its file",
    403: "the token may not do this: it needs to read and to write this bucket",
    404: "create it, or name the right one in [store]",
}


class _NoSuchPageError(InfluxError):
    """404 that speaks of no bucket."""


class _AnsweredError(Exception):
    """An HTTP answer that is no success."""

    def __init__(self, exc: ApiException) -> None:
        body = exc.body or b""
        try:
            told = msgspec.json.decode(body, type=_Said)
            said = told.message or told.error
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = body.decode(errors="replace")
        self.status = int(exc.status)
        self.said = _line(said) or str(exc.reason or "")
        self.retry_after_s = _seconds(exc.retry_after)
        super().__init__(f"{self.status} {self.said}")


def _seconds(after: str | None) -> float:
    """Return what a Retry-After header asks for, seconds or a date, within bounds."""
    if after is None:
        return 0.0
    try:
        wanted = float(after)
    except ValueError:
        try:
            wanted = parsedate_to_datetime(after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(wanted, 0.0), RETRY_AFTER_MAX_S)


def _line(text: str) -> str:
    return " ".join(text.split())[:_SAID_MAX]


def _cause(exc: urllib3.exceptions.HTTPError) -> str:
    """Return what a person can use of urllib3's message: behind the object's address."""
    return re.sub(
        r"^.*?object at 0x[0-9a-f]+>: |^\(|, None\)$|HTTPS?ConnectionPool\([^)]*\): ", "", str(exc)
    )
