"""The end of a run, as lines for people and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from demo.chaos.run import Result


def lines(result: Result, machine: dict[str, object]) -> list[str]:
    """Return the report."""
    a = result.account
    faults = "  ".join(f"{kind} {count}" for kind, count in sorted(result.injected.items()))
    frames = "  ".join(f"{what} {count}" for what, count in sorted(result.frames.items()))
    agents = [mb for name, mb in result.peak_mb.items() if name.startswith("edge-")]
    text = [
        f"seed {result.seed}  {result.seconds:g} s of faults",
        f"machine  {machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_mb')} MB,"
        f" {machine.get('system')}, Python {machine.get('python')}, mosquitto {machine.get('mosquitto')}",
        f"faults {sum(result.injected.values())}  ({faults})",
        f"PUBLISH packets  {frames}",
        f"readings  served {a.served}  accepted {a.accepted}  stored {a.stored}  (failed polls {a.failed})",
        f"missing {a.missing}  doubled {a.doubled}  differing {a.differing}  cut by a kill {a.cut}",
        f"refused by a full disk {a.refused}, booked {a.refused_booked}",
        f"dropped  {a.dropped} readings in {a.dropped_packs} packs; booked {a.booked_packs} packs,"
        f" of them {a.gap_packs} in {a.gaps} gaps; booked wrongly {a.wrongly_booked}, not booked {a.unbooked},"
        f" never seen {a.unread}",
        f"lost to the cap  {a.dropped_in_cap} readings, booked as at most {a.booked_in_cap},"
        f" of wrong size {a.wrongly_counted}",
        f"epochs {a.epochs}  behind {a.epochs_behind}",
        f"alerts  expected {a.alerts_expected}  missing {a.alerts_missing}  doubled {a.alerts_doubled}"
        f"  unexpected {a.alerts_unexpected}",
        f"drained in {result.drain_s} s   peak RSS  server {result.peak_mb.get('server', 0)} MB,"
        f" agents {max(agents, default=0)} MB",
    ]
    text += [f"skipped: {what}" for what in result.skipped]
    text += [f"ended while its disk was full: {n}, {k} times" for n, k in result.gave_up.items()]
    text += [f"ended by itself: {name}, {codes}" for name, codes in result.ended.items()]
    text += [f"WRONG  {what}" for what in result.wrong]
    text += [f"  {note}" for note in a.notes]
    return text


def save(path: Path, result: Result, machine: dict[str, object]) -> None:
    """Write everything as JSON."""
    whole = {
        **dataclasses.asdict(result),
        "machine": machine,
        "faults": sum(result.injected.values()),
        "well": result.well,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
