"""``killed_pairing.py POINT CONFIG``: the server, killed with SIGKILL before or within the pairing of a report."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from alerts.laboratory.pairing import Pairing
from dashboards import serve, server_config


def die(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_pairing() -> None:
    Pairing._settle = die


def within_pairing() -> None:
    settle = Pairing._settle

    def dying(self, *arguments):
        settle(self, *arguments)
        die()

    Pairing._settle = dying


if __name__ == "__main__":
    point, config = sys.argv[1:]
    globals()[point]()
    serve.run(server_config.load(Path(config)))
