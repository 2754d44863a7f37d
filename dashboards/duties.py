"""What the process that sends alerts looks after as time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts.casework import Deadlines
from alerts.clockwork import Duty
from alerts.laboratory.pairing import Pairing
from alerts.people.operators import SuspensionWatch
from alerts.people.retention import NoticeRetention
from alerts.policy_watch import Inhibitions, Reminders, Retests, Silences
from alerts.technical.watch import TechnicalWatch
from ingest.judge.catalogue.catalogue import standard_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.technical.conditions import Patience
    from alerts.transitions import Names
    from ingest.operational import Operational


def duties(
    operational: Operational,
    names: Names,
    troubles: Callable[[], Sequence[str]],
    patience: Patience,
) -> list[Duty]:
    """Return every duty, in the order in which they are looked after.

    ``troubles`` says what keeps the server from storing readings, nothing when it is well.
    """
    return [
        Duty("deadlines", Deadlines(operational, names).look),
        Duty("technical", TechnicalWatch(operational, names, troubles, patience).look),
        Duty("silences", Silences(operational, names).look),
        Duty("inhibitions", Inhibitions(operational, names).look),
        Duty("retests", Retests(operational, names).look),
        Duty("reminders", Reminders(operational, names).look),
        Duty("laboratory", Pairing(operational, standard_catalogue(), names).look),
        Duty("operators", SuspensionWatch(operational).look),
        Duty("old notices", NoticeRetention(operational).look),
    ]
