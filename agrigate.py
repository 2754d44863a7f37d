"""The command line: ``agrigate edge``, ``serve``, ``demo``, ``judge``, ``station`` and others."""

from __future__ import annotations

import importlib
import sys
from typing import ClassVar

import click


class Commands(click.Group):
    """Loads a command when it is called, so that an edge never imports the server; help needs no import at all."""

    COMMANDS: ClassVar[dict[str, str]] = {
        "audit": "dashboards.audit_cli:audit",
        "backup": "dashboards.data_cli:backup",
        "decode": "gateway.decode_cli:decode",
        "demo": "demo.cli:demo",
        "deploy": "dashboards.deploy_cli:deploy",
        "describe": "dashboards.describe:describe",
        "edge": "gateway.cli:edge",
        "evidence": "dashboards.evidence_cli:evidence",
        "inbox": "dashboards.data_cli:inbox",
        "judge": "ingest.cli:judge",
        "map": "dashboards.map_cli:map_group",
        "probe": "gateway.probe_cli:probe",
        "rejudge": "dashboards.rejudge_cli:rejudge",
        "restore": "dashboards.data_cli:restore",
        "scan": "gateway.scan_cli:scan",
        "serve": "dashboards.cli:serve",
        "simulate": "demo.simulate_cli:simulate",
        "standards": "ingest.standards_cli:standards",
        "station": "dashboards.station_cli:station",
        "store": "dashboards.store_cli:store",
    }
    SAYS: ClassVar[dict[str, str]] = {
        "audit": "Check the hash chains of what happened to alerts and of who administered what.",
        "backup": "Write a copy of all data of a server, while it runs, into a new directory.",
        "decode": "Decode what an instrument sent: bytes in, JSON lines out, and what is wrong where.",
        "demo": "Run a county on this machine: simulated instruments, agents, server, regulator.",
        "deploy": "Write the broker's configuration from the registry.",
        "describe": "Write JSON Schemas, AsyncAPI and OpenAPI from the types.",
        "edge": "Run the edge agent: poll the instruments, keep every record until the server has it.",
        "evidence": "Fetch the evidence pack of an alert, check one, look after the keys that sign.",
        "inbox": "Check every pack in the inbox, or make its file small again.",
        "judge": "Judge readings and tests: JSON lines in, verdicts with citation out.",
        "map": "Try a message of a vendor's device on the mappings of server.toml.",
        "probe": "Find out how a device writes a value that is known: address, type, order, scale.",
        "rejudge": "Judge a past period again and compare with what is stored; changes nothing.",
        "restore": "Check a backup and put it into a server's data directory.",
        "scan": "Find the Modbus unit ids on a line without writing anything.",
        "serve": "Run the server: ingest, judge, store, alerts, pages.",
        "simulate": "Run simulated instruments that misbehave on command.",
        "standards": "List, search, check and compare the limit catalogue.",
        "station": "Enrol stations, decide about their gateways' keys: asks a running server.",
        "store": "Look after the store of readings.",
    }
    EXTRA: ClassVar[dict[str, str]] = {
        "audit": "server",
        "backup": "server",
        "decode": "edge",
        "demo": "demo",
        "deploy": "server",
        "describe": "server",
        "edge": "edge",
        "evidence": "server",
        "inbox": "server",
        "judge": "server",
        "map": "server",
        "probe": "edge",
        "rejudge": "server",
        "restore": "server",
        "scan": "edge",
        "serve": "server",
        "simulate": "demo",
        "standards": "server",
        "station": "server",
        "store": "server",
    }

    def list_commands(self, _context: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(self.COMMANDS)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line for each command, also for those whose extra is not installed."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.SAYS.items()))

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in self.COMMANDS:
            return None
        module, attribute = self.COMMANDS[name].split(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as exc:
            extra = self.EXTRA[name]
            raise click.ClickException(
                f"agrigate {name} needs {exc.name}: install agrigate[{extra}]"
            ) from exc
        return command


@click.command(
    cls=Commands, help="Agrigate: an IoT gateway for farm bases and rapid-test stations."
)
@click.version_option(package_name="agrigate")
def main() -> None:
    """Run a command."""


if __name__ == "__main__":
    sys.exit(main())
