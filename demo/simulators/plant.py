"""All simulated instruments of a county, started together; what a test holds on to and ``__main__`` runs."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

from demo.journal import MISBEHAVED, REPLIES, SLIPS, STAGED, TESTED, JournalWriter
from demo.simulators.behaviour import Excursion, Quantity, movement_of
from demo.simulators.lines import Pty, SerialPort
from demo.simulators.misbehaviour import Control, Fault
from demo.simulators.modbus_sim import ModbusDevice, ModbusGateway
from demo.simulators.models import load_model
from demo.simulators.slip_sim import Assay, Printer, StagedSlip
from demo.simulators.tester_sim import Place, Tester
from demo.simulators.testers.profiles import PROFILES

if TYPE_CHECKING:
    from types import TracebackType

    from demo.simulators.config import (
        BusTable,
        DeviceTable,
        FaultTable,
        PrinterTable,
        SimConfig,
        TesterTable,
    )


class Plant:
    """The instruments of ``config``; an async context in which they serve and print."""

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._started_s = time.monotonic()
        self._replies = JournalWriter(config.journal_dir / REPLIES)
        self._slips = JournalWriter(config.journal_dir / SLIPS)
        self._staged = JournalWriter(config.journal_dir / STAGED)
        self._misbehaved = JournalWriter(config.journal_dir / MISBEHAVED)
        self._tested = JournalWriter(config.journal_dir / TESTED)
        self._devices: dict[tuple[str, str], ModbusDevice] = {}
        self.gateways: list[ModbusGateway] = []
        self.printers: list[Printer] = []
        self.ports: list[int] = []
        """The ports listened on, in the order of the configuration."""
        self.buses: list[ModbusGateway] = []
        self.lines: list[Pty | SerialPort] = []
        """What the buses are on, in their order."""
        self.testers: list[Tester] = []

    @property
    def devices(self) -> list[ModbusDevice]:
        """Every Modbus instrument."""
        return list(self._devices.values())

    def control(self, station: str, path: str) -> Control:
        """Return the switches of one instrument."""
        if (station, path) in self._devices:
            return self._devices[station, path].control
        return self.tester(station, path).control

    def tester(self, station: str, path: str) -> Tester:
        """Return one rapid tester."""
        return next(t for t in self.testers if (t.station, t.path) == (station, path))

    def served(self, station: str, path: str) -> int:
        """Return how many replies one Modbus instrument has served."""
        return self._devices[station, path].serving

    def listing(self) -> list[str]:
        """Return one line for each instrument: where it listens, and what a reader must know to find it."""
        lines: list[str] = []
        for table, gateway, port in zip(
            self._config.gateway, self.gateways, self.ports, strict=True
        ):
            lines += [
                f"{table.host}:{port}  modbus {gateway.framing}  {_named(device)}"
                for device in gateway.devices
            ]
        for bus_table, bus in zip(self._config.bus, self.buses, strict=True):
            lines += [
                f"{bus_table.link or bus_table.serial}  modbus {bus.framing}"
                f"{f' {device.baud} baud' if device.baud else ''}  {_named(device)}"
                for device in bus.devices
            ]
        lines += [
            f"{tester.where}  {tester.profile_name}  {tester.station}/{tester.path}"
            for tester in self.testers
        ]
        lines += [
            f"{table.link}  slips  {table.station}/{table.path}" for table in self._config.printer
        ]
        return lines

    async def run(self) -> None:
        """Test, print and serve serial lines until cancelled (TCP serves by itself)."""
        async with asyncio.TaskGroup() as tasks:
            for bus, line in zip(self.buses, self.lines, strict=True):
                tasks.create_task(bus.serve(line), name=f"bus {self.lines.index(line) + 1}")
            for tester in self.testers:
                tasks.create_task(tester.run(), name=f"tester {tester.station}/{tester.path}")
            for printer in self.printers:
                tasks.create_task(printer.run(), name=f"printer {printer.station}/{printer.path}")

    async def quiet(self) -> None:
        """Serve and print no more; return when all that was begun has left."""
        for gateway in (*self.gateways, *self.buses):
            await gateway.quiet()
        for printer in self.printers:
            await printer.quiet()
        for tester in self.testers:
            await tester.quiet()

    async def __aenter__(self) -> Plant:
        for table in self._config.gateway:
            gateway = self._gateway(
                [self._device(device) for device in table.device], table.framing
            )
            self.gateways.append(gateway)
            self.ports.append(await gateway.start(table.host, table.port))
        for bus in self._config.bus:
            baud = bus.baud if bus.timed else 0
            devices = [self._device(device, baud=baud) for device in bus.device]
            self.buses.append(self._gateway(devices, bus.framing))
            self.lines.append(_line_of(bus))
        for tester_table in self._config.tester:
            tester = self._tester(tester_table)
            await tester.start()
            self.testers.append(tester)
        self.printers = [self._printer(table) for table in self._config.printer]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for gateway in (*self.gateways, *self.buses):
            await gateway.close()
        for line in self.lines:
            line.close()
        for tester in self.testers:
            await tester.close()
        for printer in self.printers:
            printer.close()
        for journal in (self._replies, self._slips, self._staged, self._misbehaved, self._tested):
            journal.close()

    def _clock_s(self) -> float:
        return time.monotonic() - self._started_s

    def _random(self, station: str, path: str, indicator: str = "") -> Random:
        return Random(f"{self._config.seed}/{station}/{path}/{indicator}")  # noqa: S311 - a simulation

    def _gateway(self, devices: list[ModbusDevice], framing: str) -> ModbusGateway:
        self._devices |= {(device.station, device.path): device for device in devices}
        return ModbusGateway(
            devices,
            replies=self._replies,
            staged=self._staged,
            misbehaved=self._misbehaved,
            clock_s=self._clock_s,
            framing=framing,
        )

    def _faulty(self, table: DeviceTable | TesterTable) -> Control:
        return Control(
            late_s=table.late_s,
            faults=_faults(table.fault),
            random=self._random(table.station, table.path, "faults"),
        )

    def _device(self, table: DeviceTable, *, baud: int = 0) -> ModbusDevice:
        """Return one instrument; ``baud`` is its bus's, 0 without a speed."""
        model = load_model(table.model, table.settings, table.variant)
        control = self._faulty(table)
        control.refused = frozenset(table.refused)
        excursions = [
            Excursion(
                name=item.name,
                indicator=item.indicator,
                target=item.target,
                start_s=item.start_s,
                ramp_s=item.ramp_s,
                hold_s=item.hold_s,
                comparator=item.comparator,
                limit=item.limit,
                severity=item.severity,
            )
            for item in self._config.excursion
            if (item.station, item.device) == (table.station, table.path)
        ]
        quantities = {
            point.indicator: Quantity(
                point.indicator,
                movement_of(point.indicator, table.centre.get(point.indicator)),
                self._random(table.station, table.path, point.indicator),
                next((e for e in excursions if e.indicator == point.indicator), None),
            )
            for point in model.points
        }
        return ModbusDevice(
            station=table.station,
            path=table.path,
            unit_id=model.unit_id if table.unit_id is None else table.unit_id,
            model=model,
            quantities=quantities,
            excursions=excursions,
            control=control,
            baud=(table.baud or baud) if baud else 0,
            stop_bits=model.stop_bits,
            bits=model.bits,
        )

    def _tester(self, table: TesterTable) -> Tester:
        tester = Tester(
            station=table.station,
            path=table.path,
            profile_name=table.profile,
            profile=PROFILES[table.profile],
            place=Place(
                link=table.link,
                serial=table.serial,
                listen=_address(table.listen),
                connect=_address(table.connect),
                folder=table.folder,
            ),
            random=self._random(table.station, table.path),
            tested=self._tested,
            misbehaved=self._misbehaved,
            baud=table.baud if table.link or table.serial else 0,
            interval_s=table.interval_s,
            control=self._faulty(table),
        )
        tester.measure(table.results)
        return tester

    def _printer(self, table: PrinterTable) -> Printer:
        return Printer(
            station=table.station,
            path=table.path,
            link=table.link,
            kind=table.kind,
            interval_s=table.interval_s,
            first_number=table.first_number,
            script=[
                StagedSlip(
                    name=item.name,
                    after_s=item.after_s,
                    assay=Assay(item.product_name, item.item, item.value, item.result),
                    severity=item.severity,
                )
                for item in self._config.staged_slip
                if (item.station, item.device) == (table.station, table.path)
            ],
            random=self._random(table.station, table.path),
            slips=self._slips,
            staged=self._staged,
            clock_s=self._clock_s,
            journal_dir=self._config.journal_dir,
        )


def _named(device: ModbusDevice) -> str:
    return f"unit {device.unit_id}  {device.station}/{device.path}"


def _faults(tables: list[FaultTable]) -> list[Fault]:
    return [Fault(t.kind, t.probability, t.count, t.after) for t in tables]


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if text else None


def _line_of(bus: BusTable) -> Pty | SerialPort:
    if bus.link is not None:
        return Pty(bus.link)
    if bus.serial is None:
        raise ValueError("a bus needs a link or a serial port")
    return SerialPort(bus.serial, bus.baud)
