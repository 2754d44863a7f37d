"""A tester's session: the transport that its table names, with its reader behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from drivers.errors import FrameError
from drivers.tester import points
from drivers.tester.config import TesterDevice
from drivers.tester.transport import Folder, HttpInbox, SerialPort, TcpClient, TcpServer
from drivers.tester.transports.intake import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.records import TestRecord
    from drivers.session import DeviceConfig, ListeningSession
    from drivers.tester.reader import RawRecord
    from drivers.tester.transports.stream import Line


def open_session(device: DeviceConfig, now_ms: Callable[[], int]) -> ListeningSession:
    """Return a session on the device's transport; it opens with the first record asked for."""
    if not isinstance(device, TesterDevice):
        raise TypeError(f"{device.path} is not a tester")
    instrument = instrument_of(device, now_ms)
    # Only the transport that is used is loaded: an agent with one serial tester needs no HTTP.
    match device.transport:
        case SerialPort(path=path, baud=baud, format=line_format):
            from drivers.tester.transports.serial import SerialLine  # noqa: PLC0415

            return _on_line(device, instrument, SerialLine(path, baud, line_format), now_ms)
        case TcpClient(host=host, port=port):
            from drivers.tester.transports.tcp_client import TcpLine  # noqa: PLC0415

            return _on_line(device, instrument, TcpLine(host, port), now_ms)
        case TcpServer(port=port, address=address):
            from drivers.tester.transports.tcp_server import TcpServerSession  # noqa: PLC0415

            return TcpServerSession(instrument, address, port)
        case Folder(path=path, pattern=pattern):
            from drivers.tester.transports.folder import FolderSession  # noqa: PLC0415

            return FolderSession(instrument, Path(path), pattern=pattern)
        case HttpInbox() as inbox:
            from drivers.tester.transports import http_inbox  # noqa: PLC0415

            return http_inbox.HttpInboxSession(
                instrument,
                http_inbox.uploads(instrument),
                host=inbox.address,
                port=inbox.port,
                path=inbox.path,
                api_key=http_inbox.read_key(inbox.key_file),
            )
        case _:
            assert_never(device.transport)


def _on_line(
    device: TesterDevice, instrument: Instrument, line: Line, now_ms: Callable[[], int]
) -> ListeningSession:
    if device.dialogue is None:
        from drivers.tester.transports.stream import StreamSession  # noqa: PLC0415

        return StreamSession(instrument, line)
    from drivers.tester.transports.asking import AskingSession  # noqa: PLC0415

    return AskingSession(instrument, line, device.dialogue, now_ms, every_s=device.ask_every_s)


def instrument_of(device: TesterDevice, now_ms: Callable[[], int]) -> Instrument:
    """Return what a transport must know of ``device``."""

    def record_of(raw: RawRecord) -> TestRecord:
        try:
            return points.record_of(raw, device, now_ms())
        except FrameError as exc:
            raise FrameError(str(exc), raw=exc.raw or raw.raw) from exc

    return Instrument(device.path, device.bus, device.idle_s, device.reader, record_of)
