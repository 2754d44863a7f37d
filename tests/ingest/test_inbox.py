"""The inbox on a real file: what was committed is there, in order, for ever or for its retention."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from gateway import wire
from ingest import inbox as inbox_module
from ingest.inbox import DAMAGED_BYTES, DAMAGED_KEPT, Inbox, InboxError, compact, verify
from ingest.intake import Damaged, Loss, LossReason, Staged, Taken, Watermark
from ingest.publishers.arrival import Delivery

NOW = 1_777_600_000_000
EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAAA"
STATION = "hl-001"


def taken(seq: int, body: bytes = b'{"readings":[]}', at_ms: int = NOW, station=STATION) -> Taken:
    return Taken(station, EPOCH, seq, 1, NOW - 5, at_ms, body)


def staged(*packs: Taken) -> Staged:
    marks = {(p.station, p.epoch): Watermark("key", p.seq) for p in packs}
    return Staged(taken=list(packs), watermarks=marks)


@pytest.fixture
def inbox(tmp_path):
    inbox = Inbox.open(tmp_path / "inbox.db")
    yield inbox
    inbox.close()


def test_packs_get_places_that_grow_by_one(inbox):
    assert inbox.last_pos == 0
    first = inbox.commit(staged(taken(1), taken(2)))
    second = inbox.commit(staged(taken(3)))
    assert [pack.pos for pack in [*first, *second]] == [1, 2, 3]
    assert inbox.last_pos == 3
    assert inbox.read_after(0, 10) == [*first, *second]
    assert inbox.read_after(1, 1) == [first[1]]
    assert inbox.read_after(3, 10) == []


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"x" * wire.MAX_BODY_BYTES])
def test_bodies_come_back_to_the_last_byte_with_header_and_hash(inbox, body):
    inbox.commit(staged(taken(1, body)))
    pack = inbox.pack(STATION, EPOCH, 1)
    assert pack is not None
    decoded = wire.decode_pack(pack.header.encode() + b"\n" + pack.body)
    assert (decoded.body, decoded.seq, decoded.oldest, decoded.sent_ms) == (body, 1, 1, NOW - 5)
    assert pack.topic == "agri/v1/hl-001/up"
    assert inbox.read_after(0, 1)[0].body == body
    assert inbox.pack(STATION, EPOCH, 2) is None
    assert inbox.pack("hl-002", EPOCH, 1) is None


def test_everything_survives_a_restart(tmp_path):
    inbox = Inbox.open(tmp_path / "inbox.db")
    stage = staged(taken(1))
    stage.losses.append(Loss(STATION, EPOCH, 2, 5, -1, LossReason.GAP, NOW))
    stage.damaged.append(Damaged("t", "header", "header: no", b"\x00", NOW))
    packs = inbox.commit(stage)
    inbox.close()
    inbox = Inbox.open(tmp_path / "inbox.db")
    assert inbox.read_after(0, 9) == packs
    assert inbox.watermarks() == stage.watermarks
    assert inbox.losses(STATION) == stage.losses
    assert inbox.losses("hl-002") == []
    assert [(d.topic, d.field, d.payload) for d in inbox.damaged()] == [("t", "header", b"\x00")]
    assert inbox.commit(staged(taken(2)))[0].pos == 2
    inbox.close()


def test_the_owner_of_an_epoch_never_changes(inbox):
    inbox.commit(Staged(watermarks={(STATION, EPOCH): Watermark("first", 1)}))
    inbox.commit(Staged(watermarks={(STATION, EPOCH): Watermark("second", 2)}))
    assert inbox.watermarks() == {(STATION, EPOCH): Watermark("first", 2)}


def test_a_commit_is_whole_or_nothing(inbox):
    inbox.commit(staged(taken(1)))
    stage = staged(taken(2), taken(1))
    stage.losses.append(Loss(STATION, EPOCH, 2, 5, -1, LossReason.GAP, NOW))
    with pytest.raises(sqlite3.IntegrityError):
        inbox.commit(stage)
    assert [pack.seq for pack in inbox.read_after(0, 9)] == [1]
    assert inbox.losses() == []
    assert inbox.watermarks() == {(STATION, EPOCH): Watermark("key", 1)}
    assert inbox.commit(staged(taken(2)))[0].pos == 2


def test_prune_deletes_what_is_old_and_was_had_by_every_consumer(inbox):
    inbox.commit(staged(*(taken(n, at_ms=NOW + n) for n in range(1, 11))))
    assert inbox.prune(NOW + 6, through_pos=3) == 3
    assert inbox.prune(NOW + 6, through_pos=10) == 2
    assert inbox.prune(NOW + 6, through_pos=10) == 0
    assert [pack.seq for pack in inbox.read_after(0, 99)] == [6, 7, 8, 9, 10]
    assert inbox.watermarks() == {(STATION, EPOCH): Watermark("key", 10)}


def test_prune_goes_in_steps_and_says_how_far_it_went(inbox):
    inbox.commit(staged(*(taken(n) for n in range(1, 11))))
    assert [inbox.prune(NOW + 1, 10, limit=4) for _ in range(4)] == [4, 4, 2, 0]


def test_prune_leaves_the_evidence_and_goes_on_behind_it(inbox):
    inbox.commit(staged(*(taken(n) for n in range(1, 11))))
    assert inbox.prune(NOW + 1, 10, limit=4, keep={1, 2, 3, 4, 9}) == 4
    assert inbox.prune(NOW + 1, 10, limit=4, keep={1, 2, 3, 4, 9}) == 1
    assert [pack.pos for pack in inbox.read_after(0, 99)] == [1, 2, 3, 4, 9]
    assert inbox.prune(NOW + 1, 10) == 5


def test_prune_looks_at_the_oldest_only(inbox):
    """A scan of the whole log for packs that are old would hold up taking."""
    inbox.commit(staged(*(taken(n) for n in range(1, 1001))))
    steps = []
    inbox._writer.set_progress_handler(lambda: steps.append(1), 100)
    assert inbox.prune(NOW - 1, 1000, limit=10) == 0
    inbox._writer.set_progress_handler(None, 0)
    assert len(steps) < 10


def test_places_are_not_used_twice_though_all_packs_were_pruned(tmp_path):
    inbox = Inbox.open(tmp_path / "inbox.db")
    inbox.commit(staged(taken(1), taken(2)))
    assert inbox.prune(NOW + 1, 2) == 2
    inbox.close()
    inbox = Inbox.open(tmp_path / "inbox.db")
    assert inbox.last_pos == 2
    assert inbox.commit(staged(taken(3)))[0].pos == 3
    inbox.close()


def test_places_that_a_consumer_has_had_are_never_given_again(inbox):
    inbox.skip_to(500)
    inbox.skip_to(20)
    assert inbox.commit(staged(taken(1)))[0].pos == 501


def test_damaged_messages_are_bounded_in_number_and_size(inbox):
    big = Damaged("t", "body", "body: too large", b"x" * (DAMAGED_BYTES + 1), NOW)
    inbox.commit(Staged(damaged=[big]))
    [kept] = inbox.damaged()
    assert (kept.size, len(kept.payload)) == (DAMAGED_BYTES + 1, DAMAGED_BYTES)
    for _ in range(3):
        small = [Damaged("t", "header", "", b"%d" % n, NOW) for n in range(500)]
        inbox.commit(Staged(damaged=small))
    assert len(inbox.damaged(10_000)) == DAMAGED_KEPT
    assert inbox.damaged(1)[0].payload == b"499"


def test_it_can_be_read_while_it_is_written(inbox):
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set() or not seen or seen[-1] < 200:
            position = seen[-1] if seen else 0
            seen.extend(pack.pos for pack in inbox.read_after(position, 7))

    reader = threading.Thread(target=read)
    reader.start()
    for seq in range(1, 201):
        inbox.commit(staged(taken(seq)))
    done.set()
    reader.join()
    assert seen == list(range(1, 201))


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "inbox.db"
    Inbox.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(InboxError, match=r"inbox\.db: inbox of schema 9, this server knows 3"):
        Inbox.open(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "inbox.db"
    path.write_bytes(b"no database at all" * 99)
    with pytest.raises(InboxError, match=r"inbox\.db: file is not a database; restore a backup"):
        Inbox.open(path)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "inbox.db").mkdir()
    with pytest.raises(InboxError, match=r"inbox\.db: unable to open"):
        Inbox.open(tmp_path / "inbox.db")


# ---- schema 1


def old_file(path: Path) -> None:
    """Make an inbox as a server of schema 1 has left it."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(Path(__file__).with_name("inbox_v1.sql").read_text("utf-8"))


def test_a_file_of_schema_1_is_brought_up_with_its_packs(tmp_path):
    path = tmp_path / "inbox.db"
    old_file(path)
    inbox = Inbox.open(path)
    assert [(p.pos, p.seq, p.damage) for p in inbox.read_after(0, 9)] == [
        (1, 1, ""),
        (2, 2, ""),
        (3, 3, ""),
    ]
    pack = inbox.pack(STATION, EPOCH, 3)
    assert wire.decode_pack(pack.header.encode() + b"\n" + pack.body).body == b'{"tests":[]}'
    assert inbox.watermarks() == {(STATION, EPOCH): Watermark("key", 3)}
    assert len(inbox.losses()) == 1
    assert inbox.commit(staged(taken(4)))[0].pos == 4
    inbox.close()
    assert verify(path).is_good


def test_a_file_of_schema_2_is_brought_up_with_its_packs(tmp_path):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    inbox.commit(staged(taken(1), taken(2)))
    before = inbox.read_after(0, 9)
    inbox.close()
    with closing(sqlite3.connect(path)) as db:  # what schema 2 did not have
        for change in (
            "DROP TABLE deliveries",
            *(f"ALTER TABLE packs DROP COLUMN {c}" for c in ("topic", "header")),
        ):
            db.execute(change)
        db.execute("PRAGMA user_version = 2")
        db.commit()
    with pytest.raises(InboxError, match="schema 2"):
        verify(path)
    inbox = Inbox.open(path)
    assert inbox.read_after(0, 9) == before
    assert inbox.pack(STATION, EPOCH, 1).topic == f"agri/v1/{STATION}/up"
    assert inbox.deliveries() == []
    inbox.close()
    assert verify(path).is_good


def test_a_publishers_message_keeps_topic_header_and_bytes(tmp_path):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    topic, body = f"agri/v1/{STATION}/raw/node7", b"\xff no JSON"
    message = Taken(STATION, EPOCH, 1, 1, 5, 5, body, topic, "qos=1 mid=7")
    delivery = Delivery("mqtt", "7", b"d" * 32, 5)
    mark = {(STATION, EPOCH): Watermark("publishers", 1)}
    inbox.commit(Staged(taken=[message], deliveries=[delivery], watermarks=mark))
    assert inbox.deliveries() == [delivery]
    stored = inbox.pack(STATION, EPOCH, 1)
    assert (stored.topic, stored.header, stored.body) == (topic, "qos=1 mid=7", body)
    assert inbox.read_after(0, 1)[0].topic == topic
    inbox.close()
    assert verify(path).is_good
    compact(path)
    assert packs_of(path) == [(topic, body)]


def packs_of(path: Path) -> list[tuple[str, bytes]]:
    inbox = Inbox.open(path)
    found = [(pack.topic, pack.body) for pack in inbox.read_after(0, 9)]
    inbox.close()
    return found


def test_an_upgrade_that_is_cut_leaves_schema_1(tmp_path, monkeypatch):
    path = tmp_path / "inbox.db"
    old_file(path)

    def cut(_body) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inbox_module, "_digest", cut)
        with pytest.raises(KeyboardInterrupt):
            Inbox.open(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT * FROM packs").fetchone()[-1:] != (b"",)
    Inbox.open(path).close()
    assert verify(path).packs == 3


# ---- damaged rows


def damage(path, seq: int, body: bytes) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE packs SET body = ? WHERE seq = ?", (body, seq))


WRONG = zstandard.ZstdCompressor().compress(b'{"readings":[1]}')


@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [(b"\x00" * 20, "does not decompress"), (WRONG, "does not match its hash")],
)
def test_a_damaged_body_is_read_as_damaged_and_named_by_verify(tmp_path, bytes_, reason):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    inbox.commit(staged(taken(1), taken(2), taken(3)))
    damage(path, 2, bytes_)
    assert [reason in pack.damage for pack in inbox.read_after(0, 9)] == [False, True, False]
    assert inbox.pack(STATION, EPOCH, 2) is not None
    found = verify(path)  # beside the open inbox
    assert [(b.station, b.epoch, b.seq) for b in found.bad] == [(STATION, EPOCH, 2)]
    assert reason in found.bad[0].reason
    assert (found.packs, found.faults, found.is_good) == (3, [], False)
    inbox.close()


def test_verify_finds_a_watermark_behind_its_packs(tmp_path):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    inbox.commit(staged(taken(1), taken(2)))
    inbox.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE watermarks SET last = 1")
    found = verify(path)
    assert (found.bad, found.is_good) == ([], False)
    assert found.faults == [f"{STATION}/{EPOCH}: holds pack 2, but its watermark is 1"]


def test_verify_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InboxError, match="unable to open"):
        verify(tmp_path / "inbox.db")


# ---- space


def fill(inbox: Inbox, packs: int) -> None:
    rng = random.Random(1)
    inbox.commit(staged(*(taken(n, rng.randbytes(20_000)) for n in range(1, packs + 1))))


def test_what_was_pruned_goes_back_to_the_file_system_bit_by_bit(tmp_path):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    fill(inbox, 100)
    inbox._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = path.stat().st_size
    inbox.prune(NOW + 1, 100)
    assert inbox.give_back(spare_pages=50, pages=64) == 64
    assert inbox.commit(staged(taken(101)))[0].pos == 101  # taking goes on in between
    while inbox.give_back(spare_pages=50, pages=64):
        continue
    inbox._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < full / 4
    assert inbox._writer.execute("PRAGMA freelist_count").fetchone() == (50,)
    assert verify(path).is_good
    inbox.close()


def test_compact_makes_an_old_file_small_and_able_to_shrink(tmp_path):
    path = tmp_path / "inbox.db"
    old_file(path)
    inbox = Inbox.open(path)
    rng = random.Random(1)
    inbox.commit(staged(*(taken(n, rng.randbytes(20_000)) for n in range(4, 104))))
    inbox.prune(NOW + 1, 90)
    assert inbox.give_back(spare_pages=0) == 0  # a file of schema 1 cannot
    inbox.close()
    before, after = compact(path)
    assert after < before / 4
    inbox = Inbox.open(path)
    assert inbox.last_pos == 103
    inbox.prune(NOW + 1, 103)
    assert inbox.give_back(spare_pages=0) > 0
    inbox.close()


# ---- case R16: the file is taken away


@pytest.mark.parametrize("replaced", [False, True])
def test_r16_nothing_is_taken_into_a_file_that_is_gone(tmp_path, replaced):
    path = tmp_path / "inbox.db"
    inbox = Inbox.open(path)
    inbox.commit(staged(taken(1)))
    path.unlink()
    if replaced:
        path.touch()
    with pytest.raises(InboxError, match="is gone or was replaced"):
        inbox.commit(staged(taken(2)))
    inbox.close()
