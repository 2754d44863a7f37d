"""``killed_server.py POINT GO CONFIG``: the server, killed with SIGKILL at a named point of its work."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from alerts.raising import AlertRaiser
from dashboards import serve, server_config
from ingest.inbox import Inbox
from ingest.judge.consumer import Judge
from ingest.service import IngestService


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_commit(_go: Path) -> None:
    transaction = Inbox._transaction

    @contextmanager
    def dying(self):
        with transaction(self) as db:
            yield db
            if db.execute("SELECT count(*) FROM packs").fetchone() >= (3,):
                die()

    Inbox._transaction = dying


def after_commit(_go: Path) -> None:
    Inbox._check_file = lambda self: self.watermarks() and self.read_after(2, 1) and die()


def before_receipts(_go: Path) -> None:
    hand_over = IngestService._hand_over

    def dying(self, committed):
        if committed.packs and committed.packs[-1].pos >= 3:
            die()
        hand_over(self, committed)

    IngestService._hand_over = dying


def before_judging(go: Path) -> None:
    def dying(_self, _batch):
        while not go.exists():
            time.sleep(0.01)
        die()

    Judge.handle = dying


def mid_judging(_go: Path) -> None:
    apply = AlertRaiser.apply

    def dying(self, *arguments):
        apply(self, *arguments)
        die()

    AlertRaiser.apply = dying


if __name__ == "__main__":
    point, go, config = sys.argv[1:]
    globals()[point](Path(go))
    serve.run(server_config.load(Path(config)))
