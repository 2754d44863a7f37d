from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import Plan, coalesce
from drivers.modbus.points import Point, PointType

KINDS = st.sampled_from([(PointType.U16, ""), (PointType.U32, "ABCD"), (PointType.F64, "ABCDEFGH")])


@st.composite
def maps(draw):
    points, address = [], draw(st.integers(0, 50))
    for i in range(draw(st.integers(1, 30))):
        kind, order = draw(KINDS)
        points.append(
            Point(f"p{i}", address, kind, order=order, function=draw(st.sampled_from([3, 3, 4])))
        )
        address += kind.words + draw(st.sampled_from([0, 0, 0, 1, 7]))
    return draw(st.permutations(points))


@given(maps(), st.integers(4, 20))
def test_every_point_is_read_once_and_no_hole_is_bridged(points, max_read):
    blocks = coalesce(points, max_read)
    assert sorted(p.indicator for b in blocks for p in b.points) == sorted(
        p.indicator for p in points
    )
    owned = {(p.function, a) for p in points for a in range(p.address, p.end)}
    for block in blocks:
        assert block.count <= max_read
        assert {
            (block.function, a) for a in range(block.address, block.address + block.count)
        } <= owned
        registers = list(range(block.address, block.address + block.count))
        for point in block.points:
            assert block.words(registers, point) == list(range(point.address, point.end))


@given(maps(), st.integers(4, 20), st.data())
def test_refused_points_stand_alone(points, max_read, data):
    alone = frozenset(data.draw(st.lists(st.sampled_from(points))))
    for block in coalesce(points, max_read, alone=alone):
        assert len(block.points) == 1 or not alone & set(block.points)


def test_adjacent_registers_make_one_request():
    points = [Point(f"p{i}", i, PointType.U16) for i in range(9)]
    (block,) = coalesce(points, 9)
    assert (block.address, block.count) == (0, 9)
    assert [b.count for b in coalesce(points, 4)] == [4, 4, 1]


def test_a_wholly_refused_block_is_kept_and_not_halved_again():
    points = [Point(f"p{i}", i, PointType.U16) for i in range(4)]
    plan = Plan(coalesce(points, 9), 9, exact=False)
    (block,) = plan.blocks
    assert plan.may_bisect(block)
    plan.learn(block, frozenset(points))
    assert plan.blocks == (block,)
    assert not plan.may_bisect(block)
