"""``agrigate backup``, ``restore`` and ``inbox`` as a person meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import agrigate
from dashboards.serve import only_one
from ingest.inbox import Inbox
from tests.ingest.test_inbox import EPOCH, STATION, damage, staged, taken

if TYPE_CHECKING:
    from pathlib import Path

    import click

SERVER = """
[server]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
[registry]
file = "registry.toml"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "server.toml").write_text(SERVER)
    inbox = Inbox.open(tmp_path / "data" / "inbox.db")
    inbox.commit(staged(taken(1), taken(2), taken(3)))
    inbox.close()
    return tmp_path


def run(directory: Path, *argv: str) -> click.testing.Result:
    return CliRunner().invoke(agrigate.main, [*argv, "-c", str(directory / "server.toml")])


def test_verify_counts_and_names_each_bad_pack(directory: Path) -> None:
    good = run(directory, "inbox", "verify")
    assert (good.exit_code, "3 packs of 1 epochs" in good.output) == (0, True)
    damage(directory / "data" / "inbox.db", 2, b"\x00" * 9)
    bad = run(directory, "inbox", "verify")
    assert bad.exit_code == 1
    assert bad.stderr.splitlines() == [
        f"{STATION}/{EPOCH}/2: does not decompress: the inbox file was damaged"
    ]


def test_what_needs_a_stopped_server_is_refused_while_one_runs(directory: Path) -> None:
    with only_one(directory / "data"):
        for argv in (
            ("inbox", "compact"),
            ("backup", "--offline", str(directory / "b")),
            ("restore", str(directory / "b")),
        ):
            done = run(directory, *argv)
            assert done.exit_code == 1
            assert "another server uses it; stop that one first" in done.output
    assert run(directory, "inbox", "compact").exit_code == 0


def test_a_backup_of_a_running_server_needs_its_key(directory: Path) -> None:
    done = run(directory, "backup", str(directory / "b"))
    assert (done.exit_code, "api_key_file: is needed" in done.output) == (1, True)


def test_what_is_no_backup_is_not_restored(directory: Path) -> None:
    done = run(directory, "restore", str(directory), "--replace")
    assert (done.exit_code, "is no whole backup" in done.output) == (1, True)
    assert run(directory, "inbox", "verify").exit_code == 0
