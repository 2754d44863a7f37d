"""The verdict on one rapid test or laboratory result (rapid_test_record §3).

What a missing or unknown name does follows one rule: a verdict stands only when it would be the same whatever the name
meant. So a positive strip stays suspect on a product that we do not know, and a negative one becomes undetermined.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeGuard

from drivers import units
from drivers.records import Qualifier, ResultKind, ScreenResult, Severity, Verdict
from ingest.judge.findings import Breach, Citation, Judgement, Reasons
from ingest.judge.names import OP_CARBAMATE, MethodClass, fold, standard_number
from ingest.judge.tables import CHINA

if TYPE_CHECKING:
    from drivers.records import TestRecord
    from ingest.judge.catalogue import Catalogue
    from ingest.judge.cut_offs import CutOff
    from ingest.judge.names import Method, Product, Substance
    from ingest.judge.notices import BanRow

# §3.4: slightly negative inhibition is noise, beyond these bounds the run itself is wrong.
INHIBITION_MIN, INHIBITION_MAX = Decimal(-20), Decimal(100)

_SCOPE_ZH = "仅表示未检出有机磷和氨基甲酸酯类农药可疑，不代表其他农药合格"
_SCOPE_EN = "not suspected for organophosphates and carbamates; says nothing about other pesticides"
_VEGETABLE = "vegetable_"
_SCREEN_RULE = "screen-1"
"""Version of the rule that a positive strip is suspected positive; no table row stands behind it."""

FP_PRONE = "fp_prone"
LIMIT_UNVERIFIED = "limit_unverified"
OUT_OF_RANGE = "out_of_range"
OUTSIDE_METHOD = "outside_method_scope"
UNIT_UNKNOWN = "unit_unknown"
UNMAPPED_METHOD = "unmapped_method"
UNMAPPED_PRODUCT = "unmapped_product"
UNMAPPED_SUBSTANCE = "unmapped_substance"


def time_ms(text: str) -> int:
    """Return UTC ms of an RFC 3339 time or a date; without an offset it is China's; raise ValueError.

    >>> time_ms("2026-05-01") == time_ms("2026-05-01T00:00:00+08:00") == 1777564800000
    True
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=CHINA)
    return round(moment.timestamp() * 1000)


def sample_time_ms(record: TestRecord) -> int | None:
    """Return when the sample was taken, else tested; None when neither is a time."""
    for text in (record.sampled_at, record.tested_at):
        try:
            return time_ms(text)
        except (ValueError, OverflowError):
            continue
    return None


def method_class(catalogue: Catalogue, record: TestRecord) -> MethodClass:
    """Return the class of the record's method; an unknown method never confirms anything."""
    method = catalogue.names.method(record.method) if record.method else None
    return MethodClass.SCREENING if method is None else method.method_class


def is_incomplete(record: TestRecord) -> bool:
    """Tell whether a field is missing that the record must have (rapid_test_record §2)."""
    stage_needed = record.purpose is not None and record.purpose != "self"
    return not (
        record.sample_no
        and record.product_name
        and record.parameter
        and record.method
        and record.result_kind
        and record.purpose
        and (record.subject_id or record.tested_subject_name)
        and (record.sampling_stage or not stage_needed)
    )


def judge_test(catalogue: Catalogue, record: TestRecord) -> Judgement:
    """Judge a test under the rules in force when its sample was taken."""
    return _Test(catalogue, record).judge()


@dataclass(frozen=True, slots=True)
class _Known:
    """What the record's names mean; None for a name that is blank or unknown."""

    product: Product | None
    substance: Substance | None
    method: Method | None


class _Test:
    """One record on its way to a verdict: what it names, flags and reasons as they come up."""

    def __init__(self, catalogue: Catalogue, record: TestRecord) -> None:
        self.catalogue = catalogue
        self.record = record
        self.at_ms = sample_time_ms(record)
        self.reasons = Reasons([], [])
        self.flags: list[str] = []
        self.open: list[str] = []  # unknown names: a pass cannot stand
        names = catalogue.names
        self.known = _Known(
            names.product(record.product_name),
            names.substance(record.parameter),
            names.method(record.method),
        )

    # ------------------------------------------------------------ the way through

    def judge(self) -> Judgement:
        """Return the verdict."""
        kind = self._result_kind()
        self._check_names(kind)
        match kind:
            case ResultKind.INHIBITION:
                judgement = self._inhibition()
            case ResultKind.QUALITATIVE:
                judgement = self._qualitative()
            case ResultKind.QUANTITATIVE:
                judgement = self._quantitative()
            case _:
                judgement = self._say(
                    Verdict.UNDETERMINED, "未注明结果类型", "result_kind is missing"
                )
        if judgement.verdict is Verdict.PASS and self.open:
            judgement = self._with(judgement, Verdict.UNDETERMINED)
        return judgement

    def _result_kind(self) -> ResultKind | None:
        record, substance = self.record, self.known.substance
        if record.result_kind is not None:
            return record.result_kind
        if record.screen_result is not None:
            return ResultKind.QUALITATIVE
        if substance is not None and substance.code == OP_CARBAMATE:
            return ResultKind.INHIBITION
        if record.value is not None or record.qualifier is Qualifier.NOT_DETECTED:
            return ResultKind.QUANTITATIVE
        return None

    def _check_names(self, kind: ResultKind | None) -> None:
        record, names = self.record, self.catalogue.names
        if fold(record.product_name) and self.known.product is None:
            near = names.near_product(record.product_name)
            self._unknown(UNMAPPED_PRODUCT, "产品", "product", record.product_name, near)
        if self.known.substance is None and record.parameter:
            near = names.near_substance(record.parameter)
            self._unknown(UNMAPPED_SUBSTANCE, "检测项目", "substance", record.parameter, near)
        # The cut-off of an inhibition test comes from the method standard, so the code may be unknown beside it.
        by_standard = (
            kind is ResultKind.INHIBITION and record.method_standard and self._cut_offs()[0]
        )
        if record.method and self.known.method is None:
            near = names.near_method(record.method)
            self._unknown(UNMAPPED_METHOD, "检测方法", "method", record.method, near)
            if by_standard:
                self.open.remove(UNMAPPED_METHOD)

    def _unknown(self, flag: str, zh: str, en: str, name: str, near: tuple[str, ...]) -> None:
        self.flags.append(flag)
        self.open.append(flag)
        shown = name[:40].replace("\0", "")
        close = ", ".join(near)
        self.reasons.add(
            f"未知{zh}“{shown}”" + (f"，相近的有：{close}" if near else ""),
            f"unknown {en} {shown!r}" + (f", nearest known: {close}" if near else ""),
        )

    # ------------------------------------------------------------ enzyme inhibition

    def _cut_offs(self) -> tuple[list[CutOff], str]:
        """Return the cut-offs that the method standard may mean, and the standard when it is none of ours."""
        in_force = [
            c
            for c in self.catalogue.cut_offs
            if self.at_ms is None or c.from_ms <= self.at_ms < c.to_ms
        ]
        text = self.record.method_standard.strip()
        if not text:
            return in_force, ""
        said = standard_number(text)
        matching = []
        for cut_off in in_force:
            number = standard_number(cut_off.standard)
            if said and number and said[0] == number[0] and said[1] in ("", number[1]):
                matching.append(cut_off)
        return matching, "" if matching else text

    def _inhibition(self) -> Judgement:
        record, value = self.record, self.record.value
        substance = self.known.substance
        if substance is not None and substance.code != OP_CARBAMATE:
            return self._say(
                Verdict.UNDETERMINED,
                f"酶抑制法不能测定{substance.name_zh}",
                f"enzyme inhibition does not measure {substance.code}",
            )
        if record.screen_result is ScreenResult.INVALID or (
            value is not None and not value.is_finite()
        ):
            return self._say(Verdict.INVALID, "检测无效，请重测", "the run is invalid: repeat it")
        if value is None:
            return self._say(Verdict.UNDETERMINED, "缺少抑制率数值", "value is missing")
        if record.unit and not self._is_percent():
            return self._bad_unit("%")
        if not INHIBITION_MIN <= value <= INHIBITION_MAX:
            self.flags.append(OUT_OF_RANGE)
            return self._say(
                Verdict.INVALID,
                "抑制率超出 −20 %～100 %，请检查空白对照并重测",
                "inhibition outside -20 % … 100 %: check the blank and repeat",
            )
        product = self.known.product
        if product is not None and not product.group.startswith(_VEGETABLE):
            self.flags.append(OUTSIDE_METHOD)
        if product is not None and product.fp_prone:
            self.flags.append(FP_PRONE)
        cut_offs, unknown = self._cut_offs()
        if unknown:
            known = ", ".join(c.standard for c in self.catalogue.cut_offs)
            return self._say(
                Verdict.UNDETERMINED,
                f"检测依据“{unknown[:40]}”没有抑制率判定值，已知：{known}",
                f"method standard {unknown[:40]!r} has no cut-off here, known: {known}",
            )
        if not cut_offs or UNMAPPED_SUBSTANCE in self.open or UNMAPPED_METHOD in self.open:
            if not cut_offs:
                self.reasons.add("采样时没有有效的判定值", "no cut-off was in force then")
            return self._done(Verdict.UNDETERMINED)
        return self._against(cut_offs, value)

    def _against(self, cut_offs: list[CutOff], value: Decimal) -> Judgement:
        """Compare with the cut-off, or with each that it could be when the standard is not named."""
        reached = [_reaches(value, self.record.qualifier, c.limit) for c in cut_offs]
        citations = tuple(
            _cut_off_citation(c, value, exceeded=bool(r), conditions=self._matrix(c))
            for c, r in zip(cut_offs, reached, strict=True)
        )
        if None in reached:
            return self._say(
                Verdict.UNDETERMINED,
                "限定符使数值是否达到判定值不明",
                "the qualifier leaves open whether the cut-off is reached",
                citations,
            )
        if len(set(reached)) > 1:
            names = " / ".join(c.standard for c in cut_offs)
            return self._say(
                Verdict.UNDETERMINED,
                f"未注明检测依据，{names} 的判定值不同",
                f"method_standard is missing and the cut-offs of {names} disagree on this value",
                citations,
            )
        if not reached[0]:
            return self._say(Verdict.PASS, _SCOPE_ZH, _SCOPE_EN, citations)
        # Several rows agree: cite the one that is reached last.
        row, citation = max(zip(cut_offs, citations, strict=True), key=lambda pair: pair[0].limit)
        self._unverified(verified=row.verified)
        if FP_PRONE in self.flags:
            self.reasons.add(
                "该产品易出现假阳性，须重测并确证",
                "this product is prone to false positives: repeat and confirm",
            )
        self.reasons.add(
            "疑似阳性，须至少重测两次并以色谱法确证",
            "suspected positive: repeat at least twice, then confirm by chromatography",
        )
        breach = Breach(f"inhibition:{row.standard}", Verdict.SUSPECT, Severity.MAJOR, citation)
        return self._done(Verdict.SUSPECT, citations, breach)

    def _matrix(self, cut_off: CutOff) -> dict[str, str | float | None]:
        product = self.known.product
        conditions: dict[str, str | float | None] = {
            "method_standard": self.record.method_standard.strip()[:60] or None,
            "matrix": product.group if product else None,
        }
        if not self.record.method_standard:
            conditions["assumed"] = cut_off.standard
        return conditions

    # ------------------------------------------------------------ qualitative

    def _qualitative(self) -> Judgement:
        record, substance = self.record, self.known.substance
        result = record.screen_result
        if _is_number(record.c_line) and record.c_line <= 0:
            result = ScreenResult.INVALID  # §3.11: no control line
        match result:
            case None:
                return self._say(Verdict.UNDETERMINED, "缺少阴阳性结果", "screen_result is missing")
            case ScreenResult.INVALID:
                return self._say(
                    Verdict.INVALID,
                    "检测无效，请换新卡重测",
                    "invalid strip: repeat with a new one",
                )
            case ScreenResult.DOUBTFUL:
                return self._say(
                    Verdict.UNDETERMINED,
                    "结果可疑，请换新卡重测",
                    "doubtful: repeat with a new strip",
                )
            case ScreenResult.POSITIVE | ScreenResult.NEGATIVE:
                pass
        if substance is None:
            if not record.parameter:
                self.reasons.add("缺少检测项目", "parameter is missing")
            return self._done(Verdict.UNDETERMINED)
        positive = result is ScreenResult.POSITIVE
        if substance.code == OP_CARBAMATE and self.known.product and self.known.product.fp_prone:
            self.flags.append(FP_PRONE)
        ban = self._ban(substance)
        if not positive:
            citations = () if ban is None else (self._ban_citation(ban, detected=False),)
            return self._say(
                Verdict.PASS,
                f"仅表示{substance.name_zh or substance.code}低于本方法检出限",
                f"only says that {substance.code} is below the detection limit of this method",
                citations,
            )
        self.reasons.add(
            "疑似阳性，须重测并以色谱质谱法确证", "suspected positive: repeat and confirm"
        )
        if ban is not None and ban.covers_all:
            self._unverified(verified=ban.verified)
            citation = self._ban_citation(ban, detected=True)
            breach = Breach(
                f"banned:{substance.code}", Verdict.SUSPECT, Severity.CRITICAL, citation
            )
            return self._done(Verdict.SUSPECT, (citation,), breach)
        if ban is not None:
            self.reasons.add(
                f"限用农药（{ban.scope_zh}），是否禁用于该产品须人工判断",
                f"restricted ({ban.scope}): whether that covers this product needs a person",
            )
        citation = self._screen_citation(substance)
        breach = Breach(f"qualitative:{substance.code}", Verdict.SUSPECT, Severity.MAJOR, citation)
        return self._done(Verdict.SUSPECT, (citation,), breach)

    def _screen_citation(self, substance: Substance) -> Citation:
        method = self.known.method
        return Citation(
            standard=self.record.method_standard.strip()[:60],
            title_zh=method.name_zh if method else "",
            clause=f"{substance.name_zh or substance.code} 阳性",
            level="screen",
            comparator="detected",
            limit=None,
            unit="",
            exceeded=True,
            ratio=None,
            conditions={"method": self.record.method[:60] or None},
            verified=True,
            limit_version=_SCREEN_RULE,
        )

    # ------------------------------------------------------------ quantitative

    def _quantitative(self) -> Judgement:
        record, substance, value = self.record, self.known.substance, self.record.value
        not_detected = record.qualifier in (Qualifier.NOT_DETECTED, Qualifier.LT)
        if value is not None and (not value.is_finite() or value < 0):
            return self._say(Verdict.INVALID, "数值无效", "the value is negative or no number")
        if value is None and not not_detected:
            return self._say(Verdict.UNDETERMINED, "缺少检测值", "value is missing")
        if value is not None and not self._unit_is_known():
            return self._bad_unit("mg/kg")
        if substance is None:
            if not record.parameter:
                self.reasons.add("缺少检测项目", "parameter is missing")
            return self._done(Verdict.UNDETERMINED)
        ban = self._ban(substance)
        if ban is None or not ban.covers_all:
            return self._no_limit(substance, ban)
        # A value at or below the detection limit is no detection; without one any value above 0 is.
        floor = record.lod if _is_number(record.lod) else Decimal(0)
        if not_detected or value is None or (value <= floor and record.qualifier != Qualifier.GT):
            said = f"LOD {record.lod} {record.unit}" if record.lod is not None else "未注明检出限"
            return self._say(
                Verdict.PASS,
                f"未检出（{said}），仅就本方法而言",
                "not detected by this method"
                + (f" (LOD {record.lod})" if record.lod is not None else ", LOD not stated"),
                (self._ban_citation(ban, detected=False),),
            )
        self._unverified(verified=ban.verified)
        citation = self._ban_citation(ban, detected=True)
        confirmed = method_class(self.catalogue, record) is MethodClass.CONFIRMATORY
        verdict = Verdict.EXCEED if confirmed else Verdict.SUSPECT
        if not confirmed:
            self.reasons.add(
                "快检定量检出禁用物质，须以色谱质谱法确证",
                "a banned substance detected by a screening method: confirm by chromatography",
            )
        breach = Breach(f"banned:{substance.code}", verdict, Severity.CRITICAL, citation)
        return self._done(verdict, (citation,), breach)

    def _no_limit(self, substance: Substance, ban: BanRow | None) -> Judgement:
        name = f"{substance.code} {substance.name_zh}".strip()
        if ban is not None:
            return self._say(
                Verdict.UNDETERMINED,
                f"{name} 为限用（{ban.scope_zh}，{ban.notice_zh}），是否禁用于该产品须人工判断",
                f"{name} is restricted ({ban.scope}, {ban.notice}): whether that covers this"
                " product needs a person",
            )
        return self._say(
            Verdict.UNDETERMINED,
            f"标准库中尚无 {name} 的残留限量",
            f"no limit for {name} in the catalogue yet",
        )

    # ------------------------------------------------------------ bans

    def _ban(self, substance: Substance) -> BanRow | None:
        """Return the notice in force when the sample was taken.

        Pesticide notices count for plants, veterinary ones for animals; a ban of all uses as a pesticide counts for
        both. Of several that the product leaves open, a restriction goes before a ban, so that nothing is over-said.
        """
        latest: dict[str, BanRow] = {}
        for row in self.catalogue.bans.get(substance.code, ()):  # by date
            held = latest.get(row.category)
            if self.at_ms is None:
                # Any notice may have been the one in force.
                if held is None or held.covers_all:
                    latest[row.category] = row
            elif row.from_ms <= self.at_ms:
                latest[row.category] = row
        product = self.known.product
        if product is not None:
            veterinary, pesticide = latest.get("veterinary"), latest.get("pesticide")
            if product.is_animal:
                return veterinary or (pesticide if pesticide and pesticide.covers_all else None)
            return pesticide
        return min(latest.values(), key=_covers_all, default=None)

    def _ban_citation(self, ban: BanRow, *, detected: bool) -> Citation:
        product = self.known.product
        return Citation(
            standard=ban.notice,
            title_zh=ban.notice_zh,
            clause=f"{ban.substance_zh} {ban.scope_zh}",
            level=ban.status,
            comparator="detected",
            limit=None,
            unit="",
            exceeded=detected,
            ratio=None,
            conditions={
                "product": product.name_zh if product else None,
                "category": ban.category,
            },
            verified=ban.verified,
            limit_version=ban.limit_version,
        )

    # ------------------------------------------------------------ small words

    def _is_percent(self) -> bool:
        try:
            return units.canonical(self.record.unit) == "%"
        except units.UnitError:
            return False

    def _unit_is_known(self) -> bool:
        try:
            kind = units.quantity(self.record.unit)
        except units.UnitError:
            return False
        return kind in ("mass fraction", "mass concentration")

    def _bad_unit(self, wanted: str) -> Judgement:
        self.flags.append(UNIT_UNKNOWN)
        if not self.record.unit:
            return self._say(Verdict.UNDETERMINED, "缺少单位", "unit is missing")
        try:
            units.conversion(self.record.unit, wanted)
            why = f"cannot be used here, {wanted} is needed"
        except units.UnitError as exc:
            why = str(exc)
        shown = self.record.unit[:24]
        return self._say(
            Verdict.UNDETERMINED, f"单位“{shown}”无法识别或不适用，应为 {wanted}", f"unit: {why}"
        )

    def _unverified(self, *, verified: bool) -> None:
        if not verified:
            self.flags.append(LIMIT_UNVERIFIED)

    def _say(
        self, verdict: Verdict, zh: str, en: str, citations: tuple[Citation, ...] = ()
    ) -> Judgement:
        self.reasons.add(zh, en)
        return self._done(verdict, citations)

    def _done(
        self, verdict: Verdict, citations: tuple[Citation, ...] = (), breach: Breach | None = None
    ) -> Judgement:
        return Judgement(
            verdict,
            breach.severity if breach else Severity.INFO,
            citations,
            (breach,) if breach else (),
            self.reasons.text(),
            tuple(self.flags),
        )

    def _with(self, judgement: Judgement, verdict: Verdict) -> Judgement:
        return Judgement(
            verdict, Severity.INFO, judgement.citations, (), judgement.reason, judgement.flags
        )


def _is_number(value: Decimal | None) -> TypeGuard[Decimal]:
    return value is not None and value.is_finite()


def _covers_all(ban: BanRow) -> bool:
    return ban.covers_all


def _reaches(value: Decimal, qualifier: Qualifier | None, limit: Decimal) -> bool | None:
    """Tell whether the value reaches a cut-off, which fires at its value; None when the qualifier leaves it open."""
    if qualifier is Qualifier.NOT_DETECTED:
        return False
    if qualifier is Qualifier.LT:
        return False if value <= limit else None
    if qualifier is Qualifier.GT:
        return True if value >= limit else None
    return value >= limit


def _cut_off_citation(
    cut_off: CutOff,
    value: Decimal,
    *,
    exceeded: bool,
    conditions: dict[str, str | float | None],
) -> Citation:
    return Citation(
        standard=cut_off.standard,
        title_zh=cut_off.title_zh,
        clause=cut_off.clause,
        level="cut_off",
        comparator=">=",
        limit=float(cut_off.limit),
        unit=cut_off.unit,
        exceeded=exceeded,
        ratio=float(value / cut_off.limit),
        conditions=conditions,
        verified=cut_off.verified,
        limit_version=cut_off.limit_version,
    )
