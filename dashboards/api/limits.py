"""The limits of the catalogue: searched, on a plot, for a sample."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Literal, cast

from fastapi import APIRouter, HTTPException, Query
from sqlalchemy import Connection, RowMapping, select

from dashboards.access import SourcesOf
from dashboards.api.errors import READING, documented
from dashboards.api.models import (
    AppliedRule,
    BanRow,
    InForce,
    LimitPage,
    Medium,
    MissingCondition,
    NameList,
    NearName,
    PlotLimits,
    PlotList,
    PlotRow,
    ResidueRow,
    SampleLimits,
    StandardCount,
    StandardEntry,
)
from dashboards.api.nearest import nearest
from dashboards.api.stations import check_registered
from dashboards.api.times import parse_time
from dashboards.names import indicator_name
from dashboards.sources import Sources
from dashboards.standards import Known, Standards
from ingest.batch import FAIL, MISSING
from ingest.judge import in_force
from ingest.judge.catalogue.entries import Entry, matching
from ingest.judge.catalogue.limit_tables import COMPANIONS
from ingest.judge.catalogue.limits import FOREVER_MS, PLOT
from ingest.judge.readings.companions import KEPT_MS
from ingest.judge.readings.conditions import of_plot
from ingest.registry.context import PlotContext
from ingest.tables import bases, devices, plots

MAX_LIMIT = 200
_ANY = "any"
_MOST_NAMES = 12
_CONTEXT = tuple(field.name for field in fields(PlotContext) if field.name != "plot_id")
_NOT_GOOD = (FAIL, MISSING)

_Text = Annotated[str | None, Query(max_length=100)]
_At = Annotated[
    str | None,
    Query(max_length=40, description="RFC 3339 with offset, or UTC ms; now when left out"),
]

router = APIRouter(tags=["limits"])


@router.get("/limits", summary="Rows of standards, searched", responses=READING)
def limits(
    sources: SourcesOf,
    q: Annotated[
        str, Query(max_length=100, description="Words that a row must hold, all of them")
    ] = "",
    medium: Annotated[Medium | None, Query(description="Only rows of this medium")] = None,
    standard: Annotated[_Text, Query(description="Only rows of this standard")] = None,
    subject: Annotated[_Text, Query(description="Indicator or substance code")] = None,
    product: Annotated[_Text, Query(description="Only rows that are printed for it")] = None,
    at: Annotated[
        str | None,
        Query(
            max_length=40,
            description="In force then: RFC 3339 with offset, or UTC ms; now when left out; `any`: every row",
        ),
    ] = None,
    offset: Annotated[int, Query(ge=0, le=1_000_000, description="Rows to leave out")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 60,
) -> LimitPage:
    """Return a page of rows, and how many rows there are by medium and by standard."""
    standards = sources.standards
    now_ms = sources.now_ms()
    at_ms = None if at == _ANY else _time(at, now_ms)
    found = matching(
        standards.entries, q, subject=subject or "", product=product or "", at_ms=at_ms
    )
    media: Counter[str] = Counter(entry.medium for entry in found)
    found = [entry for entry in found if medium is None or entry.medium == medium]
    counts = _counts(found)
    if standard:
        found = matching(found, standard=standard)
    shown = now_ms if at_ms is None else at_ms
    asked = " ".join(filter(None, (q, subject, product)))
    return LimitPage(
        version=standards.catalogue.version,
        at_ms=at_ms,
        total=len(found),
        offset=offset,
        limits=[_entry(entry, standards, shown) for entry in found[offset : offset + limit]],
        media=dict(media),
        standards=counts,
        nearest=[] if found or not asked else _names(standards.nearest(asked)),
    )


@router.get(
    "/limits/in-force",
    summary="Limits in force on a plot or for a sample",
    responses=READING | documented(404),
)
def in_force_limits(
    sources: SourcesOf,
    plot: Annotated[_Text, Query(description="Plot id")] = None,
    station: Annotated[_Text, Query(description="Station code: every plot of its devices")] = None,
    device: Annotated[_Text, Query(description="Device path, with `station`")] = None,
    indicator: Annotated[_Text, Query(description="On plots: only rules on this indicator")] = None,
    product: Annotated[_Text, Query(description="What is sampled, by any known name")] = None,
    substance: Annotated[
        _Text, Query(description="What is looked for, with `product`; every one when left out")
    ] = None,
    at: _At = None,
) -> InForce:
    """Return what applies at a time, and which condition is missing where several rows could."""
    at_ms = _time(at, sources.now_ms())
    if sum(map(bool, (plot, station, product))) != 1:
        raise HTTPException(422, "give one of plot, station (with device) or product")
    found: list[PlotLimits] = []
    sample = None
    if product:
        sample = _for_sample(sources.standards, product, substance or "", at_ms)
    else:
        with sources.operational.read() as connection:
            wanted = _asked_plots(connection, plot, station, device)
        found = [_for_plot(sources, row, indicator, at_ms) for row in wanted]
    return InForce(
        version=sources.standards.catalogue.version, at_ms=at_ms, plots=found, sample=sample
    )


@router.get(
    "/limits/names", summary="Names of products or substances, as typed so far", responses=READING
)
def limit_names(
    sources: SourcesOf,
    kind: Annotated[Literal["product", "substance"], Query(description="What is named")],
    text: Annotated[str, Query(max_length=100, description="What was typed")] = "",
) -> NameList:
    """Return names that hold the text, else those that come nearest."""
    found = sources.standards.matching(kind, text, _MOST_NAMES) if text.strip() else []
    return NameList(names=_names(found))


@router.get("/plots", summary="Registered plots with what picks their limits", responses=READING)
def plot_list(sources: SourcesOf) -> PlotList:
    """Return every plot, by name."""
    with sources.operational.read() as connection:
        rows = _plots(connection)
    return PlotList(plots=[_plot_row(row) for row in rows])


def _time(text: str | None, now_ms: int) -> int:
    if not text:
        return now_ms
    try:
        return parse_time("at", text)
    except ValueError as exc:
        raise HTTPException(422, str(exc)) from exc


def _entry(entry: Entry, standards: Standards, at_ms: int) -> StandardEntry:
    return StandardEntry(
        standard=entry.standard,
        title_zh=entry.title_zh,
        clause=entry.table_clause,
        level=entry.level,
        medium=entry.medium,
        subject=entry.subject,
        subject_zh=entry.subject_zh,
        subject_en=standards.english(entry.subject_en),
        product_zh=entry.product_zh,
        product_en=standards.english(entry.product_en),
        kind=entry.kind,
        comparator=entry.comparator,
        limit=entry.limit,
        unit=entry.unit,
        conditions_zh=entry.conditions_zh,
        conditions_en=entry.conditions_en,
        from_ms=entry.from_ms,
        to_ms=None if entry.to_ms >= FOREVER_MS else entry.to_ms,
        in_force=entry.in_force(at_ms),
        verified=entry.verified,
        temporary=entry.temporary,
        source=entry.source,
        place=entry.place,
        limit_version=entry.limit_version,
    )


def _counts(found: Iterable[Entry]) -> list[StandardCount]:
    """Return the standards of the rows found, each with its rows, in the order of the rows."""
    counts: dict[str, StandardCount] = {}
    for entry in found:
        count = counts.setdefault(
            entry.standard,
            StandardCount(
                standard=entry.standard,
                title_zh=entry.title_zh,
                medium=entry.medium,
                rows=0,
                unverified=0,
            ),
        )
        count.rows += 1
        count.unverified += not entry.verified
    return list(counts.values())


def _names(found: Iterable[Known]) -> list[NearName]:
    return [_name(known) for known in found]


@dataclass(frozen=True, slots=True)
class _Plot:
    """A registered plot, with the devices on it."""

    context: PlotContext
    name: str
    base_name: str
    devices: tuple[tuple[str, str], ...]


def _plots(connection: Connection) -> list[_Plot]:
    """Return every plot, by name."""
    on: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for code, path, plot_id in connection.execute(
        select(devices.c.station, devices.c.path, devices.c.plot_id)
        .where(devices.c.plot_id.is_not(None))
        .order_by(devices.c.station, devices.c.path)
    ):
        on[plot_id].append((code, path))
    rows = connection.execute(
        select(plots, bases.c.name.label("base_name"), bases.c.region_code)
        .join(bases, bases.c.id == plots.c.base_id)
        .order_by(plots.c.name, plots.c.id)
    ).mappings()
    return [
        _Plot(_context(row), row["name"], row["base_name"], tuple(on[row["id"]])) for row in rows
    ]


def _context(row: RowMapping) -> PlotContext:
    named = {name: row[name] for name in _CONTEXT if name in row and row[name] is not None}
    return PlotContext(plot_id=row["id"], **named)


def _asked_plots(
    connection: Connection, plot: str | None, station: str | None, device: str | None
) -> list[_Plot]:
    """Return the plots that are asked for; raise 404 with the nearest names."""
    every = _plots(connection)
    if plot:
        found = [row for row in every if row.context.plot_id == plot]
        if not found:
            raise HTTPException(404, nearest("plot", plot, [row.context.plot_id for row in every]))
        return found
    assert station is not None  # noqa: S101 - one of the two was given
    check_registered(connection, station)
    paths = connection.scalars(select(devices.c.path).where(devices.c.station == station)).all()
    if device and device not in paths:
        raise HTTPException(404, nearest(f"device of station {station}", device, paths))
    wanted = {(station, device)} if device else {(station, path) for path in paths}
    return [row for row in every if wanted.intersection(row.devices)]


def _plot_row(plot: _Plot) -> PlotRow:
    conditions = of_plot(plot.context).known
    return PlotRow(
        id=plot.context.plot_id,
        name=plot.name,
        base_name=plot.base_name,
        conditions={key: value for key, value in conditions.items() if key != PLOT},
        devices=[f"{code}/{path}" for code, path in plot.devices],
    )


def _for_plot(sources: Sources, plot: _Plot, indicator: str | None, at_ms: int) -> PlotLimits:
    measured = _measured(sources, plot, at_ms)
    standards = sources.standards
    applied = in_force.for_plot(standards.catalogue, plot.context, at_ms, measured)
    rules = [
        _applied(rule, standards, at_ms)
        for rule in applied
        if indicator is None or rule.indicator == indicator
    ]
    missing = Counter(key for rule in rules for key in (*rule.missing, *rule.wrong))
    return PlotLimits(
        plot=_plot_row(plot),
        measured=measured,
        rules=rules,
        missing=[MissingCondition(key=key, rules=n) for key, n in missing.most_common()],
    )


def _measured(sources: Sources, plot: _Plot, at_ms: int) -> dict[str, float]:
    """Return the newest good companion readings on a plot that still count at ``at_ms``, by indicator."""
    newest: dict[str, tuple[int, float]] = {}
    for code in dict.fromkeys(code for code, _ in plot.devices):
        for latest in sources.readings.latest(code):
            name, t_ms = latest.series.indicator, int(latest.t_ms)
            if (
                name not in COMPANIONS.values()
                or (code, latest.series.device) not in plot.devices
                or int(latest.q) in _NOT_GOOD
                or not math.isfinite(latest.v)
                or not t_ms <= at_ms < t_ms + KEPT_MS[name]
            ):
                continue
            newest[name] = max(newest.get(name, (t_ms, float(latest.v))), (t_ms, float(latest.v)))
    return {name: value for name, (_, value) in newest.items()}


def _applied(rule: in_force.AppliedRule, standards: Standards, at_ms: int) -> AppliedRule:
    name = indicator_name(rule.indicator)
    return AppliedRule(
        subject=rule.indicator,
        subject_zh=name.zh,
        subject_en=name.en,
        medium=rule.entries[0].medium,
        level=rule.level,
        known=rule.is_known,
        missing=list(rule.missing),
        wrong=dict(rule.wrong),
        complete=rule.complete,
        rows=[_entry(entry, standards, at_ms) for entry in rule.entries],
    )


def _for_sample(
    standards: Standards, asked_product: str, asked_substance: str, at_ms: int
) -> SampleLimits:
    catalogue = standards.catalogue
    product = catalogue.names.product(asked_product)
    substance = catalogue.names.substance(asked_substance) if asked_substance else None
    unknown = bool(asked_substance) and substance is None
    found = in_force.SampleLimits()
    if product is not None and not unknown:
        found = in_force.for_sample(catalogue, product, substance, at_ms)
    return SampleLimits(
        product=None if product is None else _name(standards.product(product.name_zh)),
        near_products=_names(standards.nearest(asked_product, "product")) if not product else [],
        substance=None if substance is None else _name(standards.substance(substance.code)),
        near_substances=_names(standards.nearest(asked_substance, "substance")) if unknown else [],
        residues=[_residue(row, standards, at_ms) for row in found.residues],
        bans=[
            BanRow(
                entry=_entry(ban.entry, standards, at_ms),
                reach=cast("Literal['inside', 'open']", ban.reach),
            )
            for ban in found.bans
        ],
        methods=[_entry(entry, standards, at_ms) for entry in found.methods],
        reason_zh=found.reason_zh,
        reason_en=found.reason_en,
    )


def _residue(row: in_force.SampleResidue, standards: Standards, at_ms: int) -> ResidueRow:
    definition = row.definition
    return ResidueRow(
        substance=_name(standards.substance(row.substance)),
        limit=_entry(row.entry, standards, at_ms),
        matched_level=cast("Literal['commodity', 'group']", row.level),
        matched_zh=row.matched_zh,
        matched_en=standards.product_en(row.matched_zh) or standards.english(row.entry.product_en),
        fallback_zh=row.fallback_zh,
        fallback_en=row.fallback_en,
        definition_zh=definition.text_zh if definition else "",
        is_sum=definition.is_sum if definition else False,
        components=[
            _name(standards.substance(code))
            for code in (definition.components if definition else ())
        ],
    )


def _name(known: Known) -> NearName:
    return NearName(code=known.code, zh=known.zh, en=known.en)
