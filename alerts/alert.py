"""An alert in memory: the row of the alerts table, and the one way to change its state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING

from alerts.states import SYSTEM, Facts, State, Transition, Trigger, step

if TYPE_CHECKING:
    import sqlalchemy as sa

SEVERITIES = ("info", "warning", "major", "critical")
LIMIT_UNVERIFIED = "limit_unverified"
LATE = "late"
DATA_STALE = "data_stale"
FLAPPING = "flapping"


@dataclass(slots=True, kw_only=True)
class Alert:
    """One alert; the fields are the columns of the table ``alerts``."""

    alert_id: str
    dedup_key: str
    kind: str
    rule_id: str
    state: State = State.NONE
    seq: int = 0
    severity: str
    certainty: str
    station: str
    device: str
    plot_id: str = ""
    region_code: str = ""
    indicator: str
    product_name: str = ""
    sample_no: str = ""
    value: float | None
    unit: str
    citation: dict[str, object]
    evidence: dict[str, object]
    first_seen_ms: int
    last_seen_ms: int
    occurrence_count: int
    acked_by: str = ""
    acked_ms: int | None = None
    flags: list[str]
    clearable: bool = False
    below_since_ms: int | None = None
    recovered_ms: int | None = None
    raised_ms: int
    changed_ms: int
    purpose: str = ""
    sampling_stage: str = ""
    due_ms: int | None = None
    silenced_until_ms: int | None = None
    inhibited_by: list[str] = field(default_factory=list)
    retest: dict[str, object] = field(default_factory=dict)
    handover: dict[str, object] = field(default_factory=dict)
    outcome: str = ""
    related: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def from_row(cls, row: sa.RowMapping) -> Alert:
        """Build the alert from a row of the table."""
        values = {name: row[name] for name in _COLUMNS}
        return cls(**{**values, "state": State(str(row["state"]))})

    def to_row(self) -> dict[str, object]:
        """Return the row of the table."""
        return {**asdict(self), "state": str(self.state)}

    def facts(
        self,
        *,
        actor: str = SYSTEM,
        reason: str = "",
        certainty: str | None = None,
        breach_ms: int | None = None,
        clear_for_ms: int = 0,
        reopen_window_ms: int = 0,
        method: str = "",
        laboratory: str = "",
    ) -> Facts:
        """Return what the guards look at; ``certainty``, ``method`` and ``laboratory`` are those of a new result."""
        cleared_ms = None if self.below_since_ms is None else self.below_since_ms + clear_for_ms
        return Facts(
            kind=self.kind,
            actor=actor,
            reason=reason,
            certainty=certainty or self.certainty,
            limit_unverified=LIMIT_UNVERIFIED in self.flags,
            same_method=bool(method) and method == self.evidence.get("screened_by_method"),
            same_laboratory=bool(laboratory)
            and laboratory == self.evidence.get("screened_by_laboratory"),
            agency=str(self.handover.get("agency", "")),
            case_no=str(self.handover.get("case_no", "")),
            outcome=self.outcome,
            acked=self.acked_ms is not None,
            clearable=self.clearable,
            below_since_ms=self.below_since_ms,
            recovered_ms=self.recovered_ms,
            clear_for_ms=clear_for_ms,
            cleared_ms=cleared_ms,
            breach_ms=breach_ms,
            reopen_window_ms=reopen_window_ms,
        )

    def move(
        self,
        trigger: Trigger,
        facts: Facts,
        at_ms: int,
        *,
        cause: str = "",
        data: dict[str, object] | None = None,
    ) -> Change:
        """Make the transition and return it with a snapshot; an illegal one raises and changes nothing.

        ``cause`` is the finding or value that made it, blank for what a person does; ``data`` is kept with it.
        """
        previous = self.state
        transition = step(previous, trigger, facts)
        self.state = transition.target
        self.seq += 1
        self.changed_ms = at_ms
        snapshot = replace(self)
        return Change(
            snapshot, transition, previous, facts.actor, facts.reason, at_ms, cause, data or {}
        )


_COLUMNS = tuple(column.name for column in fields(Alert))


@dataclass(frozen=True, slots=True)
class Change:
    """One transition that was made: the alert as it was right after it, who did it, why and when (UTC ms).

    ``data`` is what else was said (a document, a result); it is in the log, and in the payload.
    """

    alert: Alert
    transition: Transition
    previous: State
    actor: str
    reason: str
    at_ms: int
    cause: str = ""
    data: dict[str, object] = field(default_factory=dict)
