"""The shape of the house: what a tool can check of how it is built."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import alerts.tables  # noqa: F401 - its tables join the metadata
from ingest.operational import Operational
from ingest.tables import metadata

ROOT = Path(__file__).parents[1]
PACKAGES = ("drivers", "gateway", "ingest", "alerts", "dashboards", "demo")
SOURCES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "node_modules" not in path.parts
)


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_point_left_and_codecs_are_pure():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_supervise_catches_everything():
    broad = [
        names(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]
    assert broad == ["gateway/supervise.py"]


def test_what_catches_base_exceptions_raises_them_again():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and "BaseException" in ast.unparse(
                node.type or ast.Constant(0)
            ):
                assert isinstance(node.body[-1], ast.Raise), f"{names(path)}:{node.lineno}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_begins_with_what_it_is_and_imports_nothing(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_no_drawer_for_everything():
    drawers = {"utils", "util", "common", "helper", "helpers", "manager", "misc"}
    assert not [names(path) for path in SOURCES if path.stem in drawers]


def test_every_module_says_what_it_is():
    silent = [
        names(path)
        for path in SOURCES
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent


def test_nothing_reads_like_unfinished_work():
    words = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert not [names(path) for path in SOURCES if words.search(path.read_text("utf-8"))]


def test_the_edge_loads_nothing_of_the_server():
    code = (
        "import sys, gateway.app, drivers.modbus.session, drivers.slip.session\n"
        "server = {'numpy', 'duckdb', 'sqlalchemy', 'alembic', 'fastapi', 'uvicorn', 'zstandard', 'ingest'}\n"
        "print(sorted(server & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_migrations_make_what_the_tables_say(tmp_path):
    operational = Operational(f"sqlite:///{tmp_path / 'operational.db'}")
    operational.migrate()
    with operational.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert "alerts" in sa.inspect(connection).get_table_names()
    operational.migrate()  # a second start finds nothing to do
    operational.close()


def test_a_reader_cannot_write(tmp_path):
    operational = Operational(f"sqlite:///{tmp_path / 'operational.db'}")
    operational.migrate()
    with operational.read() as connection, pytest.raises(sa.exc.OperationalError, match="readonly"):
        connection.execute(sa.text("DELETE FROM alerts"))
    operational.close()
