"""Slips come out of a pty as GBK text, wait for a reader, and are journaled when they are on the line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from typing import TYPE_CHECKING

import pytest

from demo.journal import SLIPS, STAGED, Slip, Staged, read_all
from demo.simulators.config import PrinterTable, SimConfig, StagedSlipTable, load
from demo.simulators.plant import Plant
from demo.simulators.slip_sim import CUT
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

END = b"\n\n" + CUT


def config(directory: Path, *, kind: str = "inhibition", staged: bool = False) -> SimConfig:
    positive = StagedSlipTable(
        name="positive",
        station="hl-003",
        device="tester1",
        after_s=0.0,
        product_name="韭菜",
        item="农药残留(酶抑制率)",
        value="63.2",
        result="不合格",
        severity="",
    )
    return SimConfig(
        journal_dir=directory / "journal",
        printer=[
            PrinterTable(
                station="hl-003",
                path="tester1",
                link=directory / "ptys" / "tester1",
                kind=kind,
                interval_s=0.1,
                first_number=1001,
            )
        ],
        staged_slip=[positive] if staged else [],
    )


@contextlib.asynccontextmanager
async def printing(settings: SimConfig) -> AsyncIterator[Plant]:
    async with Plant(settings) as plant, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(plant.run())
        yield plant
        running.cancel()


@contextlib.contextmanager
def listening(link: Path):
    descriptor = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


async def read_slips(descriptor: int, count: int) -> list[str]:
    """Read ``count`` whole slips from the line."""
    data = b""
    async with asyncio.timeout(20):
        while data.count(END) < count:
            try:
                data += os.read(descriptor, 1)  # one byte: never into the next slip
            except BlockingIOError:
                await asyncio.sleep(0.01)
    return [part.decode("gbk") for part in data.split(END)[:count]]


async def test_slips_on_the_line_are_those_in_the_journal(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with printing(settings):
        with listening(settings.printer[0].link) as line:
            texts = await read_slips(line, 3)
    slips = read_all(settings.journal_dir / SLIPS, Slip)
    assert [slip.text for slip in slips[:3]] == texts
    for slip, text in zip(slips, texts, strict=False):
        assert f"样品编号：{slip.sample_no}\n样品名称：{slip.product_name}\n" in text
        assert f"抑 制 率：{slip.value} %\n检测结果：合格\n" in text
    assert len({slip.sample_no for slip in slips}) == len(slips)


async def test_strips_print_words_not_numbers(tmp_path: Path) -> None:
    settings = config(tmp_path, kind="strip")
    async with printing(settings):
        with listening(settings.printer[0].link) as line:
            (text,) = await read_slips(line, 1)
    assert "检测结果：阴性" in text
    assert "抑 制 率" not in text


async def test_nobody_listening_loses_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with printing(settings) as plant:
        async with asyncio.timeout(20):
            while plant.printers[0].held < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert read_all(settings.journal_dir / SLIPS, Slip) == []
        with listening(settings.printer[0].link) as line:
            texts = await read_slips(line, 5)
    numbers = [text.splitlines()[0] for text in texts]
    assert numbers == sorted(numbers)
    assert numbers[0].endswith("-1001")


async def test_the_line_survives_its_readers(tmp_path: Path) -> None:
    settings = config(tmp_path)
    link = settings.printer[0].link
    seen: list[str] = []
    async with printing(settings):
        for _ in range(3):
            target = link.readlink()
            with listening(link) as line:
                seen += await read_slips(line, 2)
            assert link.readlink() == target
    # Slips on the line when a reader leaves are gone with it; those after are not printed twice.
    assert len(set(seen)) == len(seen) == 6


async def test_staged_slip_is_printed_and_known(tmp_path: Path) -> None:
    settings = config(tmp_path, staged=True)
    async with printing(settings):
        with listening(settings.printer[0].link) as line:
            texts = await read_slips(line, 1)
    assert "样品名称：韭菜" in texts[0]
    assert "抑 制 率：63.2 %\n检测结果：不合格" in texts[0]
    (staged,) = read_all(settings.journal_dir / STAGED, Staged)
    assert (staged.phase, staged.kind, staged.sample_no) == (
        "breached",
        "test",
        texts[0][5:].split("\n")[0],
    )


async def test_quiet_prints_no_more(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with printing(settings) as plant:
        with listening(settings.printer[0].link) as line:
            await read_slips(line, 1)
            await plant.quiet()
            before = len(read_all(settings.journal_dir / SLIPS, Slip))
            for _ in range(30):
                await asyncio.sleep(0.01)
            assert len(read_all(settings.journal_dir / SLIPS, Slip)) == before


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    settings = config(tmp_path)
    for _ in range(2):
        async with printing(settings):
            with listening(settings.printer[0].link) as line:
                await read_slips(line, 2)
    numbers = [slip.sample_no for slip in read_all(settings.journal_dir / SLIPS, Slip)]
    assert len(set(numbers)) == len(numbers)


async def test_link_goes_with_the_tester(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with printing(settings):
        assert settings.printer[0].link.is_symlink()
    assert not settings.printer[0].link.is_symlink()


@pytest.mark.parametrize(
    "text", ["journal_dir = 3\n", 'journal_dir = "x"\nseeds = 2\n', "not toml"]
)
def test_wrong_configuration_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sim.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"sim\.toml"):
        load(file)
