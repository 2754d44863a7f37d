"""What holds the processes on one PostgreSQL together: who has which role, and a wake-up with each commit of events.

One connection does both. While it is lost the wake-up comes once a second, and whoever is woken looks for himself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import structlog

from ingest.operational import WRITER_LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.operational import Operational

log = structlog.get_logger()

CHANNEL = "agrigate_events"  # of the trigger in migration 0007
POLL_S = 1.0
LOOK_S = 0.5  # how long a stop may have to wait
ALIVE_S = 10.0  # without a word for so long, ask whether the server is still there
CLAIM_S = 5.0  # a process that was killed holds its role until the server has noticed
LOCKS = {"ingest": 1, "alerts": 2}
"""Roles that one process may have; their numbers beside the writer's lock."""

_HOLDER = """
SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'a local socket')
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objid = %s AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class RoleTakenError(Exception):
    """Another process has the role; the message says where."""


class Wakeups:
    """Claims ``roles``, then calls ``on_wake`` (from its own thread) when events were committed.

    A role that another process took while the connection was lost ends the thread: ``on_failure``, ``failure``.
    """

    def __init__(self, operational: Operational, roles: Sequence[str]) -> None:
        self._operational = operational
        self._roles = [role for role in roles if role in LOCKS]
        self._on_wake: Callable[[], None] = lambda: None
        self._on_failure: Callable[[], None] = lambda: None
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)
        self.failure: BaseException | None = None

    @property
    def is_listening(self) -> bool:
        """Whether wake-ups come with the commit; otherwise once a second."""
        return self._connection is not None

    def claim(self) -> None:
        """Take the roles; raise RoleTakenError, or psycopg.Error when the server cannot be reached."""
        self._connection = self._connected()

    def start(
        self, *, on_wake: Callable[[], None], on_failure: Callable[[], None] = lambda: None
    ) -> None:
        """Begin to listen, after ``claim``."""
        self._on_wake, self._on_failure = on_wake, on_failure
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of the roles."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._connection is not None:
                    self._listen(self._connection)
                    continue
                self._on_wake()
                if not self._stopping.wait(POLL_S):
                    self._reconnect()
        except BaseException as exc:
            self.failure = exc
            log.exception("wakeups_failed")
            self._on_failure()
            raise

    def _listen(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        heard_s = time.monotonic()
        self._on_wake()  # what was committed before we listened
        try:
            while not self._stopping.is_set():
                for _ in connection.notifies(timeout=LOOK_S, stop_after=1):
                    heard_s = time.monotonic()
                    self._on_wake()
                if time.monotonic() - heard_s >= ALIVE_S:
                    connection.execute("SELECT 1")
                    heard_s = time.monotonic()
                    self._on_wake()  # a wake-up may have come with the answer
        except psycopg.Error as exc:
            log.warning("wakeups_lost", error=str(exc).strip(), todo="looking once a second")
            connection.close()
            self._connection = None

    def _reconnect(self) -> None:
        try:
            self._connection = self._connected()
        except psycopg.Error:
            return
        log.info("wakeups_back")

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = psycopg.connect(autocommit=True, **self._operational.connection_parameters())
        try:
            for role in self._roles:
                self._claim(connection, role)
            connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _claim(self, connection: psycopg.Connection[tuple[object, ...]], role: str) -> None:
        place = (WRITER_LOCK[0], LOCKS[role])
        until = time.monotonic() + CLAIM_S
        while True:
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", place).fetchone()
            if row is not None and row[0]:
                return
            holder = connection.execute(_HOLDER, place).fetchone()
            if holder is not None and holder[1] == self._operational.name:
                # Our own connection, lost to us: the server has not noticed yet.
                connection.execute("SELECT pg_terminate_backend(%s)", (holder[0],))
            elif holder is not None and time.monotonic() >= until:
                raise RoleTakenError(
                    f"role {role}: another process has it ({holder[1]} at {holder[2]}); stop that one first"
                )
            self._stopping.wait(0.1)
