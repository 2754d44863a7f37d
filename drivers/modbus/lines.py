"""Where a Modbus device hangs: a TCP address or a serial port with its settings (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BAUDS = (1200, 2400, 4800, 9600, 14_400, 19_200, 38_400, 57_600, 115_200)

Format = Literal["8N1", "8E1", "8O1", "8N2", "8E2", "8O2", "7N1", "7N2", "7E1", "7O1", "7E2", "7O2"]
TcpFraming = Literal["tcp", "rtu"]
SerialFraming = Literal["rtu", "ascii"]


@dataclass(frozen=True, slots=True)
class TcpLine:
    """A Modbus TCP server, or with ``framing`` "rtu" a converter that passes serial frames through."""

    host: str
    port: int = 502
    framing: TcpFraming = "tcp"

    @property
    def bus(self) -> str:
        """Key of the bus: one connection per host and port."""
        return f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A serial port; with ``echo`` the adapter sends back what is written to it."""

    path: str
    baud: int = 9600
    format: Format = "8N1"
    framing: SerialFraming = "rtu"
    echo: bool = False

    @property
    def bus(self) -> str:
        """Key of the bus: the port, whatever settings its devices need."""
        return f"serial:{self.path}"

    @property
    def character_s(self) -> float:
        """Seconds that one character takes: start bit, data, parity, stop."""
        bits = 1 + int(self.format[0]) + (self.format[1] != "N") + int(self.format[2])
        return bits / self.baud

    @property
    def silence_s(self) -> float:
        """Three and a half characters, the least pause between two RTU frames (serial line V1.02 §2.5.1.1)."""
        return max(3.5 * self.character_s, 0.001_75)


Line = TcpLine | SerialLine
