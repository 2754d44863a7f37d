"""Three processes on PostgreSQL and InfluxDB: a breach reaches the webhook, each is killed and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from tests.conftest import free_port, until
from tests.faults.server_process import BAD_PH, GOOD_PH, ROOT, T0_MS, ServerProcess, Station

pytestmark = pytest.mark.mosquitto
ROLES = ("ingest", "alerts", "web")


class Receiver(ThreadingHTTPServer):
    """Takes webhooks; knows the ids that it was given, each time."""

    def __init__(self, port: int) -> None:
        self.ids: list[str] = []
        self.came: dict[str, float] = {}  # alert → when its first event came, UTC ms
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                came_ms = time.time_ns() / 1e6
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.came.setdefault(event["data"]["alert_id"], came_ms)
                receiver.ids.append(self.headers["webhook-id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        super().__init__(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class Roles:
    """One configuration, three processes."""

    def __init__(self, directory, mqtt, postgres_url, influx) -> None:
        self.one = ServerProcess(directory, mqtt)
        text = self.one.config.read_text()
        self.hook = int(text.split("http://127.0.0.1:")[1].split("/")[0])
        self.ports = {"ingest": free_port(), "alerts": free_port(), "web": self.one.http}
        ports = "".join(f"{role}_port = {self.ports[role]}\n" for role in ("ingest", "alerts"))
        text = text.replace("[broker]", f"{ports}[broker]", 1)
        text += f'\n[operational]\nurl = "{postgres_url}"\n'
        if influx is not None:
            text += (
                f'[store]\nkind = "influxdb"\nurl = "{influx.url}"\nbucket = "{influx.bucket}"\n'
            )
        self.one.config.write_text(text)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, *, wait: bool = True) -> None:
        with (self.one.directory / f"{role}.log").open("ab") as log:
            command = [sys.executable, "-m", "agrigate", "serve", "--role", role, "-c"]
            self.processes[role] = subprocess.Popen(
                [*command, str(self.one.config)], cwd=ROOT, stdout=log, stderr=log
            )
        if wait:
            until(lambda: self.is_ready(role), within_s=60)

    def is_ready(self, role: str) -> bool:
        assert self.processes[role].poll() is None, self.log(role)
        return self.ask(role, "/readyz").status_code == 200

    def ask(self, role: str, path: str) -> httpx.Response:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[role]}{path}", trust_env=False)
        except httpx.HTTPError:
            return httpx.Response(599)

    def log(self, role: str) -> str:
        return (self.one.directory / f"{role}.log").read_text()

    def kill(self, role: str) -> None:
        self.processes[role].kill()
        self.processes[role].wait()

    def close(self) -> None:
        for role, process in self.processes.items():
            process.kill()
            process.wait()
            print(role, self.log(role))


@pytest.fixture
def roles(tmp_path, mosquitto, postgres, influx):
    url = postgres.new(migrated=True)
    login = influx.database(f"roles{free_port()}")
    roles = Roles(tmp_path, mosquitto.port, url, login)
    yield roles
    roles.close()
    postgres.give_back(url, migrated=True)


def rows(postgres, roles, sql):
    database = roles.one.config.read_text().split(f":{postgres.port}/")[1].split('"')[0]
    return postgres.sql(sql, database)


def test_a_breach_reaches_the_webhook_and_each_role_may_be_killed(roles, mosquitto, postgres):
    with ExitStack() as stack:
        receiver = Receiver(roles.hook)
        stack.callback(receiver.close)
        station = Station(mosquitto.port, roles.one.key)
        stack.callback(station.close)
        roles.start("alerts", wait=False)  # first: so that the endpoint is known
        until(lambda: roles.is_ready("alerts"), within_s=60)
        roles.start("ingest", wait=False)
        roles.start("web", wait=False)
        until(lambda: all(map(roles.is_ready, ("ingest", "web"))), within_s=60)

        station.add(BAD_PH)
        station.deliver()
        until(lambda: len(receiver.ids) == 1)
        until(lambda: roles.ask("web", "/api/v1/alerts").json()["alerts"][0]["state"])
        assert rows(postgres, roles, "SELECT attempts FROM outbox") == [(1,)]

        # Each is killed in turn; what it does waits, the others go on.
        roles.kill("alerts")
        station.add(GOOD_PH)
        station.add(BAD_PH)
        station.deliver()
        alert = roles.ask("web", "/api/v1/alerts").json()["alerts"][0]
        acknowledged = httpx.post(
            f"http://127.0.0.1:{roles.ports['web']}/api/v1/alerts/{alert['alert_id']}/ack",
            headers={"X-API-Key": (roles.one.directory / "api-key").read_text().strip()},
            json={"actor": "王工"},
            trust_env=False,
        )
        assert acknowledged.status_code == 200, acknowledged.text
        assert len(receiver.ids) == 1
        roles.start("alerts")
        until(lambda: len(receiver.ids) == 2)

        roles.kill("web")
        station.add(GOOD_PH)
        station.deliver()
        roles.start("web")

        roles.kill("ingest")
        assert roles.ask("web", "/api/v1/alerts").status_code == 200
        for _ in range(20):
            station.add(GOOD_PH)
        roles.start("ingest")
        station.deliver()

        # Nothing is lost, nothing counts twice.
        cursor = "SELECT inbox_pos FROM cursors WHERE consumer = 'judge'"
        until(lambda: rows(postgres, roles, cursor) == [(len(station.bodies),)])
        path = "/api/v1/readings?station=hl-001&device=canal/ph&indicator=water_ph"
        span = "&start=1777599999000&end=1777600001000"
        until(lambda: roles.ask("web", path + span).json()["total"] == len(station.bodies))
        found = rows(postgres, roles, "SELECT state, occurrence_count FROM alerts")
        assert found == [("suspected", 2)]
        assert len(receiver.ids) == len(set(receiver.ids)) == 2
        (counted,) = [
            line
            for line in roles.ask("ingest", "/metrics").text.splitlines()
            if line.startswith('ingest_consumer_behind_packs{consumer="judge"}')
        ]
        assert counted.endswith(" 0.0")
        assert "alerts_outbox_pending 0.0" in roles.ask("alerts", "/metrics").text
        assert 'stations{state="online"}' in roles.ask("web", "/metrics").text
        for role in ROLES:
            assert roles.ask(role, "/healthz").status_code == 200
            roles.processes[role].terminate()
        assert {role: roles.processes[role].wait(30) for role in ROLES} == dict.fromkeys(ROLES, 0)


def test_postgresql_killed_under_the_roles_loses_and_doubles_nothing(
    tmp_path, mosquitto, own_postgres, influx
):
    database = own_postgres()
    roles = Roles(tmp_path, mosquitto.port, database.new(), influx.database(f"pg{free_port()}"))
    with ExitStack() as stack:
        stack.callback(roles.close)
        receiver = Receiver(roles.hook)
        stack.callback(receiver.close)
        station = Station(mosquitto.port, roles.one.key)
        stack.callback(station.close)
        for role in ("alerts", "ingest", "web"):
            roles.start(role)
        station.add(BAD_PH)
        station.deliver()
        until(lambda: len(receiver.ids) == 1)

        cursor = "SELECT inbox_pos FROM cursors WHERE consumer = 'judge'"
        for n in range(2):
            database.kill()
            until(lambda: all(roles.ask(role, "/readyz").status_code == 503 for role in ROLES))
            # Receipts follow the inbox, not PostgreSQL: what the judge has not had waits there.
            for value in (GOOD_PH, BAD_PH, GOOD_PH):
                station.add(value)
            station.deliver()
            database.start()
            until(lambda: all(map(roles.is_ready, ROLES)), within_s=60)
            packs = 1 + 3 * (n + 1)
            until(lambda packs=packs: rows(database, roles, cursor) == [(packs,)], within_s=60)
        alerts = rows(database, roles, "SELECT state, occurrence_count FROM alerts")
        assert alerts == [("suspected", 3)]
        findings = rows(database, roles, "SELECT count(*), count(DISTINCT t_ms) FROM findings")
        assert findings == [(3, 3)]
        pending = "SELECT count(*) FROM outbox WHERE state = 'pending'"
        until(lambda: rows(database, roles, pending) == [(0,)], within_s=60)
        told = rows(database, roles, "SELECT webhook_id FROM outbox")
        assert {one for (one,) in told} == set(receiver.ids)
        path = "/api/v1/readings?station=hl-001&device=canal/ph&indicator=water_ph"
        span = "&start=1777599999000&end=1777600001000"
        until(lambda: roles.ask("web", path + span).json()["total"] == len(station.bodies))

        # A breach after all that still wakes the process that tells it.
        known = len(set(receiver.ids))
        alert = roles.ask("web", "/api/v1/alerts").json()["alerts"][0]
        acknowledged = httpx.post(
            f"http://127.0.0.1:{roles.ports['web']}/api/v1/alerts/{alert['alert_id']}/ack",
            headers={"X-API-Key": (roles.one.directory / "api-key").read_text().strip()},
            json={"actor": "王工"},
            trust_env=False,
        )
        assert acknowledged.status_code == 200, acknowledged.text
        until(lambda: len(set(receiver.ids)) == known + 1)
        for role in ROLES:
            roles.processes[role].terminate()
        assert {role: roles.processes[role].wait(30) for role in ROLES} == dict.fromkeys(ROLES, 0)


@pytest.mark.slow
def test_how_long_a_breach_takes_from_its_commit_to_the_webhook(roles, mosquitto, postgres):
    """Measures, and says the numbers; they hold for nothing but this machine, so none is asserted."""
    paths = [f"canal/p{n}" for n in range(100)]
    with (roles.one.directory / "registry.toml").open("a") as registry:
        for path in paths:
            registry.write(
                f'[[device]]\nstation = "hl-001"\npath = "{path}"\nname = "p"\nplot = "canal"\n'
            )
    with ExitStack() as stack:
        receiver = Receiver(roles.hook)
        stack.callback(receiver.close)
        station = Station(mosquitto.port, roles.one.key)
        stack.callback(station.close)
        for role in ("alerts", "ingest", "web"):
            roles.start(role)
        for n, path in enumerate(paths):
            reading = {"n": f"{path}/water_ph", "t": T0_MS / 1000, "v": BAD_PH}
            station.bodies.append(json.dumps({"readings": [reading]}).encode())
            station.deliver()
            until(lambda n=n: len(receiver.came) == n + 1)
        sql = (
            "SELECT alert_id, extract(epoch FROM min(pg_xact_commit_timestamp(xmin))) * 1000"
            " FROM events WHERE alert_id <> '' GROUP BY alert_id"
        )
        committed = {alert: float(at_ms) for alert, at_ms in rows(postgres, roles, sql)}
    took = np.array([at_ms - committed[alert] for alert, at_ms in receiver.came.items()])  # (n,)
    half, most, longest = np.percentile(took, [50, 95, 100]).round(1)
    print(f"commit to webhook, {len(took)} breaches: p50 {half} p95 {most} max {longest} ms")
    assert len(took) == len(paths)


def test_a_second_ingest_is_refused(roles):
    roles.start("ingest")
    done = roles.one.run("serve", "--role", "ingest")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "another server uses it" in done.stderr
    assert roles.processes["ingest"].poll() is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", 'a PostgreSQL in [operational] url and kind = "influxdb" in [store]'),
        ("postgresql+psycopg://a@127.0.0.1:1/b", 'needs kind = "influxdb" in [store]'),
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_its_databases_is_refused_in_one_line(tmp_path, role, url, said):
    one = Roles(tmp_path, 1, url, None).one
    done = one.run("serve", "--role", role)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_postgresql_that_is_away_is_said_in_one_line(tmp_path):
    one = Roles(tmp_path, 1, f"postgresql+psycopg://a@127.0.0.1:{free_port()}/b", None).one
    done = one.run("serve")
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if "127.0.0.1" in line]) == 1
    assert "Traceback" not in done.stderr
