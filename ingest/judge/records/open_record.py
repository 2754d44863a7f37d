"""One test record on its way to a verdict: what it names, flags and reasons as they come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers import units
from drivers.records import Severity, Verdict
from ingest.judge.catalogue.names import MethodClass, fold
from ingest.judge.findings import LIMIT_UNVERIFIED, Breach, Citation, Judgement, Reasons, gravest
from ingest.judge.records.record_facts import method_class, result_kind, sample_time_ms

if TYPE_CHECKING:
    from drivers.records import TestRecord
    from ingest.judge.catalogue.catalogue import Catalogue

DEFINITION_ASSUMED = "definition_assumed"
DEVICE_DISAGREES = "device_disagrees"
FP_PRONE = "fp_prone"
LIMIT_FALLBACK = "limit_fallback"
LINES_DISAGREE = "lines_disagree"
OUT_OF_RANGE = "out_of_range"
OUTSIDE_METHOD = "outside_method_scope"
UNIT_UNKNOWN = "unit_unknown"
UNMAPPED_METHOD = "unmapped_method"
UNMAPPED_PRODUCT = "unmapped_product"
UNMAPPED_SUBSTANCE = "unmapped_substance"

CARD = "enzyme_inhibition_card"
"""The method code of the enzyme test card, which is read by eye and has no number."""


class OpenRecord:
    """A record being judged; ``open`` holds the unknown names under which a pass cannot stand."""

    def __init__(self, catalogue: Catalogue, record: TestRecord) -> None:
        self.catalogue = catalogue
        self.record = record
        self.at_ms = sample_time_ms(record)
        self.reasons = Reasons([], [])
        self.flags: list[str] = []
        self.open: list[str] = []
        names = catalogue.names
        self.product = names.product(record.product_name)
        self.substance = names.substance(record.parameter)
        self.method = names.method(record.method)
        self.kind = result_kind(catalogue, record)

    @property
    def product_names(self) -> tuple[str, ...]:
        """The product, the groups it stands in (the nearest first) and its class; empty when it is not known."""
        product = self.product
        if product is None:
            return ()
        return (*self.catalogue.residues.commodities.lineage(product.name_zh), product.group)

    def evidence(self) -> dict[str, str | float | None]:
        """Return what a citation freezes of the result itself, as far as it is said."""
        record = self.record
        said: dict[str, str | float | None] = {}
        for name in ("lod", "loq", "c_line", "t_line"):
            number = getattr(record, name)
            if number is not None:
                said[name] = str(number)[:40]
        if record.basis is not None:
            said["basis"] = record.basis
        return said

    @property
    def confirms(self) -> bool:
        """Whether the method is one whose number stands by itself."""
        return method_class(self.catalogue, self.record) is MethodClass.CONFIRMATORY

    def check_names(self) -> None:
        """Flag each name that is not known."""
        record, names = self.record, self.catalogue.names
        if fold(record.product_name) and self.product is None:
            near = names.near_product(record.product_name)
            self.unknown(UNMAPPED_PRODUCT, "产品", "product", record.product_name, near)
        if self.substance is None and record.parameter:
            near = names.near_substance(record.parameter)
            self.unknown(UNMAPPED_SUBSTANCE, "检测项目", "substance", record.parameter, near)
        if record.method and self.method is None:
            near = names.near_method(record.method)
            self.unknown(UNMAPPED_METHOD, "检测方法", "method", record.method, near)

    def unknown(self, flag: str, zh: str, en: str, name: str, near: tuple[str, ...]) -> None:
        """Say that a name is not known, and which come near."""
        self.flag(flag)
        self.open.append(flag)
        shown = name[:40].replace("\0", "")
        close = ", ".join(near)
        self.reasons.add(
            f"未知{zh}“{shown}”" + (f"，相近的有：{close}" if near else ""),
            f"unknown {en} {shown!r}" + (f", nearest known: {close}" if near else ""),
        )

    def flag(self, flag: str) -> None:
        """Add a flag once."""
        if flag not in self.flags:
            self.flags.append(flag)

    def no_substance(self) -> Judgement:
        """Return the verdict on a record whose substance is not known (said already) or missing."""
        if not self.record.parameter:
            self.reasons.add("缺少检测项目", "parameter is missing")
        return self.done(Verdict.UNDETERMINED)

    def bad_unit(self, unit: str, wanted: str) -> Judgement:
        """Return the verdict on a value whose unit is missing, unknown or of another quantity."""
        self.flag(UNIT_UNKNOWN)
        if not unit:
            return self.say(Verdict.UNDETERMINED, "缺少单位", "unit is missing")
        try:
            units.conversion(unit, wanted)
            why = f"cannot be used here, {wanted} is needed"
        except units.UnitError as exc:
            why = str(exc)
        return self.say(
            Verdict.UNDETERMINED,
            f"单位“{unit[:24]}”无法识别或不适用，应为 {wanted}",
            f"unit: {why}",
        )

    def say(
        self, verdict: Verdict, zh: str, en: str, citations: tuple[Citation, ...] = ()
    ) -> Judgement:
        """Return a verdict without a breach, and why."""
        self.reasons.add(zh, en)
        return self.done(verdict, citations)

    def done(
        self,
        verdict: Verdict,
        citations: tuple[Citation, ...] = (),
        breaches: tuple[Breach, ...] = (),
    ) -> Judgement:
        """Return the verdict with all that was flagged and said; a breach of an unverified limit is flagged."""
        if any(not breach.citation.verified for breach in breaches):
            self.flag(LIMIT_UNVERIFIED)
        severity = gravest([breach.severity for breach in breaches])
        return Judgement(
            verdict,
            severity if breaches else Severity.INFO,
            citations,
            breaches,
            self.reasons.text(),
            tuple(self.flags),
        )
