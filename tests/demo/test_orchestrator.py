"""The demo refuses what it cannot do, in words, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from demo.orchestrator import prepare, run_demo
from demo.processes import DemoError, free_ports, is_free
from demo.received import read_received
from demo.screen import Screen

if TYPE_CHECKING:
    from pathlib import Path


def test_a_busy_port_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run_demo(directory=tmp_path / "demo", port=port, duration_s=1) == 1
    assert f"port {port} is busy; give another with --port" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "run").exists()


def test_two_demos_do_not_share_a_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (port,) = free_ports(1)
        assert run_demo(directory=tmp_path, port=port, duration_s=1) == 1
    assert "another demo runs" in capsys.readouterr().err


@pytest.mark.parametrize("broker", ["mosquitto", "http://127.0.0.1:1883", "mqtt://"])
def test_a_broker_that_is_none_is_refused(
    tmp_path: Path, broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    assert run_demo(directory=tmp_path, port=port, duration_s=1, broker=broker) == 1
    assert "must be 'embedded' or mqtt://" in capsys.readouterr().err


def test_the_last_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mark").touch()
    (port,) = free_ports(1)
    # A broker URL that nobody answers: the demo gives up after its files are written.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demo.orchestrator.START_S", 0.3)
        url = f"mqtt://127.0.0.1:{free_ports(1)[0]}"
        assert run_demo(directory=tmp_path, port=port, duration_s=1, broker=url) == 1
    assert (tmp_path / "last" / "mark").exists()
    assert (tmp_path / "run" / "registry.toml").exists()


def test_login_of_an_outside_broker(tmp_path: Path) -> None:
    run = prepare(tmp_path, api_key=tmp_path / "k", broker="mqtt://demo:p%40ss@127.0.0.1:1999")
    assert run.ports.mqtt == 1999
    assert (tmp_path / "broker.password").read_text() == "p@ss"
    assert "p@ss" not in run.files.server.read_text("utf-8")
    with pytest.raises(DemoError):
        prepare(tmp_path / "other", api_key=tmp_path / "k", broker="tcp://127.0.0.1")


def test_received_webhooks_are_read_whole_lines_only(tmp_path: Path) -> None:
    journal = tmp_path / "received.jsonl"
    assert read_received(journal) == []
    event = (
        '{"type":"alert.suspected","data":{"alert_id":"A1","title":{"zh":"疑","en":"s"},"seq":1}}'
    )
    journal.write_text(
        f'{{"webhook_id":"evt_1","received_ms":1,"event":{event}}}\n'
        '{"webhook_id":"evt_2","event":null}\n'
        '{"webhook_id":"evt_3","ev',
        "utf-8",
    )
    first, second = read_received(journal)
    assert (first.webhook_id, first.event_type, first.alert_id, first.title) == (
        "evt_1",
        "alert.suspected",
        "A1",
        "疑 / s",
    )
    assert second.webhook_id == "evt_2"


def test_the_block_is_redrawn_below_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(20)
    screen.block(["one", "two"])
    screen.line("event")
    screen.block(["one", "three"])
    assert capsys.readouterr().out == (
        "one\ntwo\n\x1b[2A\x1b[Jevent\none\ntwo\n\x1b[2A\x1b[Jone\nthree\n"
    )


def test_without_a_terminal_nothing_is_redrawn(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(None)
    for number in range(5):
        screen.block(["", f"numbers {number}"])
    screen.line("event")
    assert capsys.readouterr().out == "numbers 0\nevent\n"


def test_two_interrupts_end_everything_once_and_quietly(tmp_path: Path) -> None:
    [port] = free_ports(1)
    demo = subprocess.Popen(
        [sys.executable, "-m", "agrigate", "demo", "--port", str(port), "--directory", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Ctrl-C" in line:
            break
    demo.send_signal(signal.SIGINT)
    for line in demo.stdout:
        if "ending" in line:
            demo.send_signal(signal.SIGINT)
            break
    rest = demo.stdout.read()
    demo.stdout.close()
    assert demo.wait(timeout=60) == 0, rest
    assert "Traceback" not in rest
    assert is_free(port)
