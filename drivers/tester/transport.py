"""Where a rapid tester's bytes come from: one of five tables under ``transport``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers.device_table import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

BAUDS = (1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200)
PRINTER_PORT = 9100
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port, or a printer's cable that ends in one."""

    path: str
    baud: int
    format: str

    @property
    def bus(self) -> str:
        """Key of the bus."""
        return f"serial:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpClient:
    """The instrument listens, we connect."""

    host: str
    port: int

    @property
    def bus(self) -> str:
        """Key of the bus."""
        return f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TcpServer:
    """The instrument connects to us, as to a network printer."""

    port: int
    address: str

    @property
    def bus(self) -> str:
        """Key of the bus."""
        return f"listen:{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Folder:
    """Files that the instrument's program, or a person with a U-disk, puts into a folder."""

    path: str
    pattern: str

    @property
    def bus(self) -> str:
        """Key of the bus."""
        return f"folder:{self.path}"


@dataclass(frozen=True, slots=True)
class HttpInbox:
    """The instrument uploads to a path of the agent's own HTTP address."""

    path: str
    port: int
    address: str
    key_file: str = ""
    """File with the key that an upload must bring; blank: none, and then on loopback only."""

    @property
    def bus(self) -> str:
        """Key of the bus: devices on one address and port are told apart by their paths."""
        return f"http:{self.address}:{self.port}{self.path}"


Transport = SerialPort | TcpClient | TcpServer | Folder | HttpInbox


class _SerialTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    serial: Annotated[str, msgspec.Meta(min_length=1)]
    baud: int = 0
    format: Literal["", "8N1", "8E1", "8O1", "8N2", "7E1"] = ""


class _TcpTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tcp: Annotated[str, msgspec.Meta(pattern=r"^.+:\d{1,5}$")]


class _ListenTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    address: str = "127.0.0.1"


class _FolderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    folder: Annotated[str, msgspec.Meta(min_length=1)]
    pattern: str = "*"


class _HttpTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    http: Annotated[str, msgspec.Meta(pattern=r"^/[A-Za-z0-9/_.-]*$")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8480
    address: str = "127.0.0.1"
    key_file: str = ""


KINDS = ("serial", "tcp", "listen", "folder", "http")


def read_transport(
    table: Mapping[str, object],
    where: str,
    faults: list[str],
    *,
    baud: int = 9600,
    line_format: str = "8N1",
) -> Transport | None:
    """Return the transport in ``table``, or None after adding to ``faults``; ``baud`` and format are the profile's."""
    said = [kind for kind in KINDS if kind in table]
    if len(said) != 1:
        faults.append(f"{where}: needs one of {', '.join(KINDS)}, has {', '.join(said) or 'none'}")
        return None
    match said[0]:
        case "serial":
            serial = read_table(_SerialTable, table, where, faults)
            if serial is None:
                return None
            speed = serial.baud or baud
            if speed not in BAUDS:
                faults.append(f"{where}: baud: {speed} is none of {', '.join(map(str, BAUDS))}")
                return None
            return SerialPort(serial.serial, speed, serial.format or line_format)
        case "tcp":
            tcp = read_table(_TcpTable, table, where, faults)
            if tcp is None:
                return None
            host, _, port = tcp.tcp.rpartition(":")
            if not 1 <= int(port) <= 65_535:
                faults.append(f"{where}: tcp: {port} is no port")
                return None
            return TcpClient(host.strip("[]"), int(port))
        case "listen":
            listen = read_table(_ListenTable, table, where, faults)
            return None if listen is None else TcpServer(listen.listen, listen.address)
        case "folder":
            folder = read_table(_FolderTable, table, where, faults)
            return None if folder is None else Folder(folder.folder, folder.pattern)
        case _:
            http = read_table(_HttpTable, table, where, faults)
            if http is None:
                return None
            if not http.key_file and http.address not in LOOPBACK:
                faults.append(
                    f"{where}: key_file: is missing; {http.address} is reached from elsewhere"
                )
                return None
            return HttpInbox(http.http, http.port, http.address, http.key_file)
