"""``agrigate station`` against a server on a port: the file is there or nothing was made."""

from __future__ import annotations

import stat
import threading
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

import agrigate
from dashboards import serve, server_config
from dashboards.serving import DashboardServer
from gateway.broker import read_enrolment
from ingest.broker.pki import Authority
from ingest.registry.enrolment import Site
from ingest.tables import broker_credentials, gateway_keys, stations
from tests.conftest import free_port, until

STATION = "hl-001"
NEW = ("--name", "一号站", "--region", "640122")
KEY, OTHER_KEY = "a" * 43 + "=", "b" * 43 + "="


@pytest.fixture
def server(county, key, tmp_path, monkeypatch):
    """Run the pages of a server with a [deploy] table; ``call`` is the command line in an empty directory."""
    port = free_port()
    site = Site("mqtt.county.example", 8883, lambda: Authority.open(tmp_path / "pki"))
    web = DashboardServer(county.app(site=site), port=port)
    thread = threading.Thread(target=web.run)
    thread.start()
    until(lambda: web.started)
    key_file = tmp_path / "api-key"
    key_file.write_text(key + "\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments):
        options = ["--url", f"http://127.0.0.1:{port}", "--key-file", str(key_file)]
        return CliRunner().invoke(agrigate.main, ["station", *options, *arguments])

    yield SimpleNamespace(call=call, county=county, here=tmp_path / "here")
    web.should_exit = True
    thread.join()


def show(server, *shown):
    for number, (key, state) in enumerate(shown):
        server.county.insert(
            gateway_keys, station=STATION, key=key, state=state, first_seen_ms=number
        )


def key_states(server):
    with server.county.operational.read() as connection:
        return dict(connection.execute(sa.select(gateway_keys.c.key, gateway_keys.c.state)).all())


def test_a_station_is_added_with_a_file_for_its_owner_only(server):
    done = server.call("add", STATION, *NEW, "--certificate", "--lon", "106.5", "--lat", "38.5")
    assert done.exit_code == 0, done.output
    file = server.here / "hl-001.enrolment.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(server.here.iterdir()) == [file]
    faults: list[str] = []
    enrolment = read_enrolment(file, faults)
    assert enrolment is not None
    assert (faults, enrolment.code, enrolment.warnings) == ([], STATION, ())
    assert enrolment.login.tls.certificate_pem
    assert enrolment.login.password not in done.output
    for step in ("agrigate deploy mosquitto", file.name, "agrigate station approve hl-001"):
        assert step in done.output


def test_a_file_that_is_there_is_not_written_over(server):
    (server.here / "x.toml").write_text("mine")
    done = server.call("add", STATION, *NEW, "--out", "x.toml")
    assert done.exit_code == 1
    assert "x.toml: is there already" in done.stderr
    assert (server.here / "x.toml").read_text() == "mine"
    assert nothing_was_made(server)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_made(server):
    done = server.call("add", STATION, *NEW, "--out", "nowhere/x.toml")
    assert done.exit_code == 1
    assert "nowhere/x.toml: cannot be written" in done.stderr
    assert nothing_was_made(server)


def nothing_was_made(server):
    with server.county.operational.read() as connection:
        return not [
            *connection.execute(sa.select(broker_credentials)),
            *connection.execute(sa.select(stations)),
        ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("HL/1", *NEW), "422: code"),
        ((STATION, "--name", "x"), "422: region_code: is missing"),
        (("agri-probe", *NEW), "409"),
    ],
)
def test_what_the_server_refuses_leaves_no_file(server, arguments, said):
    done = server.call("add", *arguments, "--out", "x.toml")
    assert done.exit_code == 1
    assert said in done.stderr
    assert list(server.here.iterdir()) == []


def test_a_second_credential_needs_renew_and_takes_the_files_place(server):
    server.call("add", STATION, *NEW, "--out", "x.toml")
    first = (server.here / "x.toml").read_text()
    refused = server.call("add", STATION, "--out", "y.toml")
    assert refused.exit_code == 1
    assert "409" in refused.stderr
    assert "--renew" in refused.stderr
    done = server.call("add", STATION, "--renew", "--out", "x.toml")
    assert done.exit_code == 0, done.output
    assert (server.here / "x.toml").read_text() != first
    assert [file.name for file in server.here.iterdir()] == ["x.toml"]


def test_a_swapped_gateway_is_the_named_act(server):
    server.county.add_station()
    show(server, (OTHER_KEY, "approved"), (KEY, "pending"))
    refused = server.call("approve", STATION)
    assert refused.exit_code == 1
    assert f"agrigate station replace {STATION} {KEY}" in refused.stderr
    done = server.call("replace", STATION)
    assert done.exit_code == 0, done.output
    assert key_states(server) == {OTHER_KEY: "replaced", KEY: "approved"}


def test_of_two_keys_that_wait_one_must_be_named(server):
    server.county.add_station()
    show(server, (KEY, "pending"), (OTHER_KEY, "pending"))
    for act in ("approve", "replace"):
        done = server.call(act, STATION)
        assert done.exit_code == 1
        assert KEY in done.stderr
        assert OTHER_KEY in done.stderr
    assert server.call("approve", STATION, KEY).exit_code == 0
    assert server.call("refuse", STATION, OTHER_KEY).exit_code == 0
    assert key_states(server) == {KEY: "approved", OTHER_KEY: "refused"}
    shown = server.call("keys", STATION).output
    assert shown == f"approved  {KEY}\nrefused   {OTHER_KEY}\n"


def test_the_list_has_key_state_and_alarms(server):
    server.county.add_station()
    server.county.set_state(queue=3, alarms=["clock_off", "spool_full"])
    show(server, (KEY, "approved"))
    line = server.call("list").output.split()
    assert line == [STATION, "online", "approved", "3", "站hl-001", "!clock_off", "!spool_full"]


@pytest.mark.parametrize("deploy", ["", '[deploy]\nhost = "mqtt.county.example"\n'])
def test_the_site_is_what_deploy_says_and_its_authority_lives_in_the_data_directory(
    tmp_path, deploy
):
    (tmp_path / "server.toml").write_text(
        '[server]\ndata_dir = "data"\n[broker]\nhost = "127.0.0.1"\nport = 1883\n'
        f'[registry]\nfile = "registry.toml"\n{deploy}'
    )
    site = serve._site(server_config.load(tmp_path / "server.toml"))
    if not deploy:
        assert site is None
        return
    assert (site.host, site.port) == ("mqtt.county.example", 8883)
    assert site.authority().ca_pem == (tmp_path / "data" / "pki" / "ca.crt").read_text()


# ---- keys for records


def test_a_record_key_is_shown_once_listed_and_revoked(server):
    server.call("add", STATION, *NEW)
    made = server.call("record-key", "add", STATION, "--device", "plot3/soil1", "--name", "节点")
    assert made.exit_code == 0, made.output
    assert "\nagd_" in f"\n{made.stdout}"
    listed = server.call("record-key", "list", STATION)
    state, key_id, device, name = listed.stdout.split()
    assert (state, device, name) == ("stands", "plot3/soil1", "节点")
    assert key_id in made.stdout
    assert server.call("record-key", "revoke", STATION, key_id).exit_code == 0
    assert "revoked" in server.call("record-key", "list", STATION).stdout
    assert server.call("record-key", "revoke", STATION, key_id).exit_code == 1
