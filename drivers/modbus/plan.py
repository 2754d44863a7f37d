"""Which registers to read together: adjacent points in few requests, refused ones apart (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.modbus.points import Point


@dataclass(frozen=True, slots=True)
class Block:
    """One request: ``count`` registers from ``address``, and the points in them."""

    function: int
    address: int
    count: int
    points: tuple[Point, ...]

    def words(self, registers: Sequence[int], point: Point) -> Sequence[int]:
        """Return the registers of ``point`` out of the block's."""
        return registers[point.start - self.address : point.end - self.address]

    def halves(self) -> tuple[Block, Block]:
        """Return two blocks of half the points each."""
        middle = len(self.points) // 2
        return _block(self.points[:middle]), _block(self.points[middle:])


def _block(points: Sequence[Point]) -> Block:
    start = min(point.start for point in points)
    end = max(point.end for point in points)
    return Block(points[0].function, start, end - start, tuple(points))


def coalesce(
    points: Iterable[Point], max_read: int, *, alone: frozenset[Point] = frozenset()
) -> tuple[Block, ...]:
    """Return the fewest blocks of adjacent registers, at most ``max_read`` each; holes are never bridged.

    Points in ``alone`` get a block of their own, and no block reaches over their registers.
    """
    blocks: list[Block] = []
    run: list[Point] = []

    def fits(point: Point) -> bool:
        if not run or run[0] in alone or point in alone or point.function != run[0].function:
            return False
        end = max(member.end for member in run)
        start = min(member.start for member in run)
        return point.start <= end and max(end, point.end) - start <= max_read

    for point in sorted(points, key=lambda p: (p.function, p.start, p.end)):
        if run and not fits(point):
            blocks.append(_block(run))
            run = []
        run.append(point)
    if run:
        blocks.append(_block(run))
    return tuple(blocks)


class Plan:
    """The blocks of one device, refined as the device refuses registers.

    A refused block is bisected once; points that failed alone keep blocks of their own for the plan's lifetime.
    """

    def __init__(self, blocks: Sequence[Block], max_read: int, *, exact: bool) -> None:
        self.blocks = tuple(blocks)
        self._max_read = max_read
        self._exact = exact
        self._alone: frozenset[Point] = frozenset()
        self._refused_whole: set[Block] = set()

    def may_bisect(self, block: Block) -> bool:
        """Whether a refusal of ``block`` can tell more than is known."""
        return len(block.points) > 1 and not self._exact and block not in self._refused_whole

    def learn(self, block: Block, refused: frozenset[Point]) -> None:
        """Remember which points of a bisected ``block`` the device refused."""
        if refused.issuperset(block.points):
            # The device refuses everything, as some do while they start: asking for the block again costs one request.
            self._refused_whole.add(block)
        elif refused:
            self._alone |= refused
            points = (point for member in self.blocks for point in member.points)
            self.blocks = coalesce(points, self._max_read, alone=self._alone)
