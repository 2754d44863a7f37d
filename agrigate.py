"""The command line: ``agrigate edge``, ``serve``, ``demo``, ``judge``, ``station``."""

from __future__ import annotations

import importlib
import sys
from typing import ClassVar

import click


class Commands(click.Group):
    """Loads a command when it is called, so that an edge never imports the server."""

    COMMANDS: ClassVar[dict[str, str]] = {
        "demo": "demo.cli:demo",
        "edge": "gateway.cli:edge",
        "judge": "ingest.cli:judge",
        "serve": "dashboards.cli:serve",
        "station": "dashboards.cli:station",
    }
    EXTRA: ClassVar[dict[str, str]] = {
        "demo": "demo",
        "edge": "edge",
        "judge": "server",
        "serve": "server",
        "station": "server",
    }

    def list_commands(self, _context: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(self.COMMANDS)

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
