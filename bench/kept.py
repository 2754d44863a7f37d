"""The kept results, read for the page."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


class Result:
    """One file of ``bench/results``; a value is asked for by its path, ``a.b.c``."""

    def __init__(self, name: str, values: dict[str, object]) -> None:
        self.name = name
        self._values = values

    def get(self, path: str) -> object:
        """Return the value at ``path``; None when there is none."""
        found: object = self._values
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def number(self, path: str) -> float:
        """Return the number at ``path``; raise KeyError when there is none."""
        found = self.get(path)
        if not isinstance(found, int | float):
            raise KeyError(f"{self.name}.json: {path} is no number")
        return float(found)

    def text(self, path: str) -> str:
        """Return the text at ``path``, blank when there is none."""
        found = self.get(path)
        return found if isinstance(found, str) else ""

    def table(self, path: str) -> dict[str, object]:
        """Return the object at ``path``, empty when there is none."""
        found = self.get(path)
        return found if isinstance(found, dict) else {}

    def rows(self, path: str) -> list[Result]:
        """Return the objects of the list at ``path``, none when there is no such list."""
        found = self.get(path)
        listed = found if isinstance(found, list) else []
        return [Result(self.name, one) for one in listed if isinstance(one, dict)]

    def numbers(self, path: str) -> list[float]:
        """Return the numbers of the list at ``path``, none when there is no such list."""
        found = self.get(path)
        return [float(one) for one in found] if isinstance(found, list) else []


def load_results(directory: Path = RESULTS) -> dict[str, Result]:
    """Return the kept results of full runs by name."""
    return {
        file.stem: Result(file.stem, json.loads(file.read_text("utf-8")))
        for file in sorted(directory.glob("*.json"))
        if not file.stem.endswith(".quick")
    }
