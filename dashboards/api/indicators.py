"""The indicator catalogue."""

from fastapi import APIRouter

from dashboards.api.errors import READING
from dashboards.api.models import IndicatorList, IndicatorRow
from drivers.indicators import catalogue

router = APIRouter(tags=["indicators"])


@router.get("/indicators", summary="The indicator catalogue", responses=READING)
def indicators() -> IndicatorList:
    """Return every indicator with its names, medium, unit and decimals."""
    return IndicatorList(
        indicators=[
            IndicatorRow(
                code=row.code,
                name_zh=row.zh,
                name_en=row.en,
                medium=row.medium,
                unit=row.unit,
                decimals=row.decimals,
            )
            for row in catalogue().values()
        ]
    )
