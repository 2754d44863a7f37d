"""JSON from Android instruments and uploads: objects on a stream, by balanced braces (sans-IO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from drivers.errors import FrameError
from drivers.tester.reader import MAX_RAW_BYTES, Found, RawRecord
from drivers.tester.text import CHARSETS, folded

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DOCUMENT_BYTES = 1024 * 1024  # some thousand records
MAX_DEPTH = 32
_OPEN, _CLOSE = frozenset(b"{["), frozenset(b"}]")
_QUOTE, _ESCAPE = ord('"'), ord("\\")
_HIGH = 0x80

Pairs = tuple[tuple[str, str], ...]


class JsonTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``json``: ``path`` leads to the list of records (``data.items``), blank when the object is one."""

    path: str = ""


class JsonReader:
    """An object, or a list of them, is read once its last brace is there."""

    def __init__(self, options: JsonTable, *, charset: str = "auto") -> None:
        self._path = tuple(options.path.split(".")) if options.path else ()
        self._charset = charset
        self._may_be_gbk = "gb18030" in CHARSETS[charset]
        self._found = Found()
        self._document = bytearray()
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self._high = bytearray()  # bytes above ASCII in a row: characters, and perhaps half of one
        self._noise = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether an object has begun."""
        return bool(self._document or self._noise)

    def feed(self, data: bytes) -> None:
        """Take what the line sent."""
        for byte in data:
            if not self._depth and byte not in _OPEN:
                self._other(byte)
                continue
            if not self._document:
                self._end_noise()
            self._document.append(byte)
            self._scan(byte)
            if not self._depth:
                self._end(bytes(self._document))
            elif len(self._document) > MAX_DOCUMENT_BYTES or self._depth > MAX_DEPTH:
                self._found.refuse("an object without end", self._document)
                self._reset()

    def silence(self) -> None:
        """The line fell silent: an object without its last brace is no object."""
        if self._document:
            self._found.refuse("an object cut short", self._document)
            self._reset()
        self._end_noise()

    def next(self) -> RawRecord | None:
        """Return the next record; raise FrameError for an object that is none."""
        return self._found.next()

    def next_reply(self) -> bytes | None:
        """Return the next whole object."""
        return self._found.next_reply()

    def _other(self, byte: int) -> None:
        """Take a byte between objects: blanks are nothing, all else is kept to be told."""
        if byte in b" \t\r\n\x00,\xef\xbb\xbf" and not self._noise:
            return
        self._noise.append(byte)
        if len(self._noise) >= MAX_RAW_BYTES:
            self._end_noise()

    def _end_noise(self) -> None:
        if self._noise:
            self._found.refuse("not JSON", self._noise)
            self._noise.clear()

    def _scan(self, byte: int) -> None:
        """Follow braces outside of texts; a GBK character may end in a byte that looks like one."""
        if self._in_text and byte >= _HIGH:
            if self._may_be_gbk:
                self._high.append(byte)
            self._escaped = False
            return
        half = self._high and self._is_half()
        self._high.clear()
        if half:
            return
        if self._in_text:
            if self._escaped:
                self._escaped = False
            elif byte == _ESCAPE:
                self._escaped = True
            elif byte == _QUOTE:
                self._in_text = False
        elif byte == _QUOTE:
            self._in_text = True
        elif byte in _OPEN:
            self._depth += 1
        elif byte in _CLOSE:
            self._depth -= 1

    def _is_half(self) -> bool:
        """Whether the bytes above ASCII end in the first half of a GBK character, whose second looks like ASCII."""
        if len(self._high) % 2 == 0:
            return False
        return "utf-8" not in CHARSETS[self._charset] or not _is_text(bytes(self._high), "utf-8")

    def _reset(self) -> None:
        self._document.clear()
        self._high.clear()
        self._depth = 0
        self._in_text = self._escaped = False

    def _end(self, document: bytes) -> None:
        self._reset()
        self._found.reply(document[:MAX_RAW_BYTES])
        charset = next((c for c in CHARSETS[self._charset] if _is_text(document, c)), "")
        if not charset:
            self._found.refuse("not text of the character set", document)
            return
        text = document if charset == "utf-8" else document.decode(charset).encode()
        try:
            for raw, pairs in _records(text, self._path, ()):
                said = raw if charset == "utf-8" else raw.decode().encode(charset)
                if len(said) > MAX_RAW_BYTES:
                    self._found.refuse(f"a record of {len(said)} bytes", said)
                else:
                    self._found.record(RawRecord(pairs, said, raw.decode()))
        except FrameError as exc:
            self._found.refuse(str(exc), document)


def _is_text(data: bytes, charset: str) -> bool:
    try:
        data.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _records(text: bytes, path: tuple[str, ...], shared: Pairs) -> Iterator[tuple[bytes, Pairs]]:
    """Yield (bytes, pairs) of each record below ``path``; what stands above it holds for all. Raises FrameError."""
    try:
        if text.lstrip().startswith(b"["):
            for item in msgspec.json.decode(text, type=list[msgspec.Raw]):
                yield from _records(bytes(item), path, shared)
            return
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise FrameError(f"not a record: {exc}", raw=text) from exc
    pairs = (*shared, *((folded(k), s) for k, v in members.items() if (s := _scalar(bytes(v)))))
    if not path:
        yield text, tuple(dict(pairs).items())
        return
    if path[0] not in members:
        raise FrameError(f"no {path[0]!r} in it", raw=text)
    yield from _records(bytes(members[path[0]]), path[1:], pairs)


def _scalar(value: bytes) -> str:
    """Return a text, or a number's own digits; blank for null, objects and lists."""
    value = value.strip()
    if value.startswith(b'"'):
        try:
            return msgspec.json.decode(value, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise FrameError(f"not a text: {exc}", raw=value) from exc
    if value == b"null" or value[:1] in (b"{", b"["):
        return ""
    return value.decode("utf-8", errors="replace")
