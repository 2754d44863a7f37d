"""What a person has of a recording to its bytes: the bytes themselves, hexadecimal digits, or text (pure)."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

Format = Literal["raw", "hex", "text"]

_SEPARATORS = b" \t\r\n,;:-|[]<>()"
_TO_BLANK = bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS))
_MAX_WORD = 4096  # an even number: a longer word is cut between pairs
_MAX_LINE = 64 * 1024
_SHOWN = 64

# A log line's bytes: [01][03] or <01><03> (libmodbus, mbpoll), or four pairs and more with one and the same separator.
_BRACKETS = re.compile(rb"[\[<]([0-9A-Fa-f]{2})[\]>]")
_PAIRS = re.compile(
    rb"(?<![0-9A-Za-z])[0-9A-Fa-f]{2}(?:([ :\-,]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){2,}(?![0-9A-Za-z])"
)


@dataclass(frozen=True, slots=True)
class NotBytes:
    """A part of the input that says no bytes; ``at`` counts the bytes of the input."""

    at: int
    text: str
    why: str


class Input(Protocol):
    """Chunks of a file to bytes; the same bytes come out however the file was cut."""

    def feed(self, chunk: bytes) -> Iterator[bytes | NotBytes]:
        """Take a chunk; yield the bytes that it says, and what says none."""
        ...

    def end(self) -> Iterator[bytes | NotBytes]:
        """Yield what is left when the file ends."""
        ...


class RawInput:
    """The bytes as they are."""

    def feed(self, chunk: bytes) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        yield chunk

    def end(self) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        return iter(())


class HexInput:
    """Pairs of hexadecimal digits in any grouping, with or without ``0x``; ``#`` begins a comment."""

    def __init__(self) -> None:
        self._word = b""  # the last word, whose end has not come
        self._at = 0  # where it begins in the input
        self._comment = False

    def feed(self, chunk: bytes) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        text, self._word = self._word + chunk, b""
        start = 0
        while start < len(text):
            if self._comment:
                newline = text.find(b"\n", start)
                self._comment = newline < 0
                start = len(text) if self._comment else newline
                continue
            sharp = text.find(b"#", start)
            if sharp < 0:
                whole = self._whole(text, start)
                yield from _bytes_of(text[start:whole], self._at + start)
                self._word = text[whole:]
                self._at += whole
                return
            yield from _bytes_of(text[start:sharp], self._at + start)
            self._comment = True
            start = sharp
        self._at += len(text)

    def end(self) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        rest, self._word = self._word, b""
        yield from _bytes_of(rest, self._at)

    @staticmethod
    def _whole(text: bytes, start: int) -> int:
        """Return where the last word begins; a word that does not end is cut between its pairs."""
        begins = max(text.rfind(byte, start) for byte in _SEPARATORS) + 1
        begins = max(begins, start)
        return begins + (len(text) - begins) // _MAX_WORD * _MAX_WORD


def _bytes_of(text: bytes, start: int) -> Iterator[bytes | NotBytes]:
    """Yield the bytes in whole words; a word that is no pairs of digits spoils no other."""
    text = text.translate(_TO_BLANK)
    try:
        said = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        for found in re.finditer(rb"[^ ]+", text):
            yield _word(found[0], start + found.start())
        return
    if said:
        yield said


def _word(word: bytes, at: int) -> bytes | NotBytes:
    digits = word[2:] if word[:2] in (b"0x", b"0X") else word
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        only_digits = re.fullmatch(rb"[0-9A-Fa-f]*", digits)
        why = "an odd number of digits" if only_digits else "not hexadecimal digits"
        return NotBytes(at, word[:_SHOWN].decode("utf-8", "replace"), why)


class LogInput:
    """The lines of a log that show bytes: in brackets, or as four pairs of digits and more; the rest is passed over."""

    def __init__(self) -> None:
        self._line = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            yield from _of_line(line)
        while len(self._line) >= _MAX_LINE:
            yield from _of_line(self._line[:_MAX_LINE])
            self._line = self._line[_MAX_LINE:]

    def end(self) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        line, self._line = self._line, b""
        yield from _of_line(line)


def _of_line(line: bytes) -> Iterator[bytes]:
    bracketed = b"".join(_BRACKETS.findall(line))
    if bracketed:
        yield bytes.fromhex(bracketed.decode("ascii"))
        return
    runs = [
        digits
        for found in _PAIRS.finditer(line)
        if len(digits := re.sub(rb"[^0-9A-Fa-f]", b"", found[0])) % 2 == 0
    ]
    if runs:
        yield bytes.fromhex(max(runs, key=len).decode("ascii"))


class TextInput:
    """UTF-8 text to the character set of the instrument that printed it."""

    def __init__(self, charset: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._charset = charset
        self._started = False

    def feed(self, chunk: bytes) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        yield self._encoded(self._decoder.decode(chunk))

    def end(self) -> Iterator[bytes | NotBytes]:
        """See ``Input``."""
        yield self._encoded(self._decoder.decode(b"", final=True))

    def _encoded(self, text: str) -> bytes:
        if text and not self._started:
            self._started = True
            text = text.removeprefix("\ufeff")
        return text.encode(self._charset, "replace")
