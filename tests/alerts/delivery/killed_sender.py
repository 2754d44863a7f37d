"""``killed_sender.py POINT DATABASE KEY``: the sender, killed with SIGKILL at a named point of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from alerts.delivery import sender as sender_module
from alerts.delivery.lane import Lane
from alerts.delivery.posting import Poster
from alerts.delivery.sender import Sender
from alerts.vault import Vault
from ingest.operational import Operational


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_send() -> None:
    async def dying(*_arguments: object, **_more: object) -> None:
        die()

    Poster.post = dying


def after_send() -> None:
    send = Lane.send

    async def dying(self: Lane, job: object) -> None:
        await send(self, job)
        die()

    Lane.send = dying


def before_record() -> None:
    turn = sender_module.take_turn

    def dying(operational: Operational, settled: list, *more: object) -> object:
        if settled:
            die()
        return turn(operational, settled, *more)

    sender_module.take_turn = dying


if __name__ == "__main__":
    point, url, key = sys.argv[1:]
    globals()[point]()
    asyncio.run(Sender(Operational(url), Vault(key.encode())).run())
