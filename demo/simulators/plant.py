"""All simulated instruments of a county, started together; what a test holds on to and ``__main__`` runs."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

from demo.journal import REPLIES, SLIPS, STAGED, JournalWriter
from demo.simulators.behaviour import Excursion, Quantity, movement_of
from demo.simulators.modbus_sim import Control, ModbusDevice, ModbusGateway
from demo.simulators.models import load_model
from demo.simulators.slip_sim import Assay, Printer, StagedSlip

if TYPE_CHECKING:
    from types import TracebackType

    from demo.simulators.config import DeviceTable, PrinterTable, SimConfig


class Plant:
    """The instruments of ``config``; an async context in which they serve and print."""

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._started_s = time.monotonic()
        self._replies = JournalWriter(config.journal_dir / REPLIES)
        self._slips = JournalWriter(config.journal_dir / SLIPS)
        self._staged = JournalWriter(config.journal_dir / STAGED)
        self._devices: dict[tuple[str, str], ModbusDevice] = {}
        self.gateways: list[ModbusGateway] = []
        self.printers: list[Printer] = []
        self.ports: list[int] = []
        """The ports listened on, in the order of the configuration."""

    @property
    def devices(self) -> list[ModbusDevice]:
        """Every Modbus instrument."""
        return list(self._devices.values())

    def control(self, station: str, path: str) -> Control:
        """Return the switches of one Modbus instrument."""
        return self._devices[station, path].control

    def served(self, station: str, path: str) -> int:
        """Return how many replies one Modbus instrument has served."""
        return self._devices[station, path].serving

    async def run(self) -> None:
        """Test and print until cancelled (the Modbus side serves by itself)."""
        async with asyncio.TaskGroup() as tasks:
            for printer in self.printers:
                tasks.create_task(printer.run(), name=f"printer {printer.station}/{printer.path}")

    async def quiet(self) -> None:
        """Serve and print no more; return when all that was begun has left."""
        for gateway in self.gateways:
            await gateway.quiet()
        for printer in self.printers:
            await printer.quiet()

    async def __aenter__(self) -> Plant:
        for table in self._config.gateway:
            devices = [self._device(device) for device in table.device]
            gateway = ModbusGateway(
                devices, replies=self._replies, staged=self._staged, clock_s=self._clock_s
            )
            self.gateways.append(gateway)
            self.ports.append(await gateway.start(table.host, table.port))
            self._devices |= {(device.station, device.path): device for device in devices}
        self.printers = [self._printer(table) for table in self._config.printer]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for gateway in self.gateways:
            await gateway.close()
        for printer in self.printers:
            printer.close()
        for journal in (self._replies, self._slips, self._staged):
            journal.close()

    def _clock_s(self) -> float:
        return time.monotonic() - self._started_s

    def _random(self, station: str, path: str, indicator: str = "") -> Random:
        return Random(f"{self._config.seed}/{station}/{path}/{indicator}")  # noqa: S311 - a simulation

    def _device(self, table: DeviceTable) -> ModbusDevice:
        model = load_model(table.model, table.settings)
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
            unit_id=table.unit_id,
            model=model,
            quantities=quantities,
            excursions=excursions,
        )

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
