"""The load generator's figures, from records with known answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from evenkeel.load import analysis
from evenkeel.load.records import End, Record, Run, Writer, read
from evenkeel.load.schedule import offered, schedule
from evenkeel.load.schedule_check import check_schedule
from evenkeel.load.settings import Settings, parse_mix
from evenkeel.load.summary import render, summarise

OK = Record(0, 0.001, 0.1, "GET", "/", False, 200, "backend-1", "v1", "")
SETTINGS = Settings("http://127.0.0.1", parse_mix(["GET /=10,POST /=1"]), rate=10, duration=10)


def steady(seconds: float = 10) -> list[Record]:
    """Return ten requests a second, each answered within a tenth of a second."""
    return [OK._replace(at=number / 10) for number in range(int(seconds * 10))]


def ended(records: list[Record], stopped: float = 10) -> Run:
    return Run(1000.0, SETTINGS, records, [], End(stopped, 1))


def test_schedule_is_absolute_and_repeats() -> None:
    first, second = (list(islice(schedule(SETTINGS), 1000)) for _ in range(2))
    assert first == second
    assert [scheduled.at for scheduled in first] == [number / 10 for number in range(1000)]
    assert first != list(islice(schedule(replace(SETTINGS, seed=2)), 1000))


def test_mix_is_exact_in_every_round_and_not_periodic() -> None:
    methods = [scheduled.method for scheduled in islice(schedule(SETTINGS), 1100)]
    places = [methods[start : start + 11].index("POST") for start in range(0, 1100, 11)]
    assert methods.count("POST") == 100
    assert len(set(places)) > 5


def test_share_of_fresh_connections() -> None:
    for share, least, most in ((0, 0, 0), (0.5, 400, 600), (1, 1000, 1000)):
        fresh = sum(scheduled.fresh for scheduled in islice(schedule(replace(SETTINGS, fresh=share)), 1000))
        assert least <= fresh <= most


@pytest.mark.parametrize(("rate", "seconds", "count"), [(10, 1, 10), (10, 0.95, 10), (3, 1.0001, 4), (7, 0, 0)])
def test_offered_counts_what_the_plan_holds(rate: float, seconds: float, count: int) -> None:
    held = [scheduled for scheduled in islice(schedule(replace(SETTINGS, rate=rate)), 50) if scheduled.at < seconds]
    assert offered(rate, seconds) == count == len(held)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 1001)]
    assert [analysis.percentile(values, percent) for percent in (50, 99, 99.9, 100)] == [500, 990, 999, 1000]
    assert analysis.percentile([7.0], 50) == 7
    assert analysis.percentile([], 50) is None


def test_latency_leaves_out_quick_failures_but_no_timeouts() -> None:
    found = analysis.latency(
        [OK, OK._replace(latency=0.0001, failure="connect"), OK._replace(latency=9, failure="timeout")]
    )
    assert (found.count, found.p50, found.max) == (2, 0.1, 9)


def test_gap_reaches_to_both_ends() -> None:
    assert analysis.longest_gap([1, 2, 5, 6], 0, 7) == 3
    assert analysis.longest_gap([4, 5], 0, 6) == 4
    assert analysis.longest_gap([1, 2], 0, 7) == 5
    assert analysis.longest_gap([], 3, 7) == 4
    assert analysis.longest_gap([1, 2, 9], 2, 7) == 5


def test_floor_finds_a_dip_across_two_seconds_of_the_clock() -> None:
    times = [number / 10 for number in range(100) if not 4.5 <= number / 10 < 5.5]
    assert analysis.per_second(times, 0, 10) == [10, 10, 10, 10, 5, 5, 10, 10, 10, 10]
    assert analysis.floor(times, 0, 10) == 0
    assert analysis.floor(times, 6, 10) == 10
    assert analysis.floor(times, 6, 6.5) is None


def test_floor_sees_the_ends() -> None:
    times = [number / 10 for number in range(20, 80)]
    assert analysis.floor(times, 0, 8) == 0
    assert analysis.floor(times, 2, 9) == 0
    assert analysis.floor([], 0, 5) == 0


def test_summary_counts() -> None:
    records = steady()
    records[30] = records[30]._replace(status=503, failure="status")
    records[31] = records[31]._replace(status=0, method="POST", failure="reset", backend="")
    records[32] = records[32]._replace(status=0, method="POST", failure="unfinished", backend="")
    records[33] = records[33]._replace(backend="backend-2")
    found = summarise(ended(records))
    assert (found.offered, found.sent, found.answered, found.ok, found.failed) == (100, 100, 98, 97, 2)
    assert found.in_flight_at_end == 1
    assert found.failures == {"GET": {"status": 1}, "POST": {"reset": 1}}
    assert found.longest_gap == pytest.approx(0.4)
    assert (found.rps_floor, found.rps_floor_share) == (7, 0.7)
    assert found.backends == {"backend-1": 96, "backend-2": 1}
    assert found.valid
    assert "failed POST  reset 1\n" in render(found)
    windowed = summarise(ended(records), 5, 8)
    assert (windowed.offered, windowed.sent, windowed.failed) == (30, 30, 0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"late": 0.6}, "The generator was up to 0.600 s late; 0.5 s is the limit."),
        ({"failure": "local"}, "This machine ran out of ports, open files or memory for 1 requests."),
    ],
)
def test_generator_at_fault_voids_the_run(change: dict[str, Any], fault: str) -> None:
    records = steady(20)
    records[5] = records[5]._replace(**change)
    assert check_schedule(ended(records, 20), 0, 20).faults == (fault,)
    assert check_schedule(ended(records, 20), 10, 20).faults == ()


def test_often_a_little_late_voids_the_run() -> None:
    records = [record._replace(late=0.06) for record in steady()]
    assert "One request in a hundred was sent 0.060 s late" in check_schedule(ended(records), 0, 10).faults[0]


def test_a_pause_and_a_shortfall_void_the_run() -> None:
    run = replace(ended(steady(9)), pauses=[(3.0, 0.7)])
    assert check_schedule(run, 0, 10).faults == (
        "The generator was up to 0.700 s late; 0.5 s is the limit.",
        "Only 90 of 100 requests were sent.",
    )
    assert "THE RUN DOESN'T COUNT: Only 90" in render(summarise(run))


def test_records_come_back(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r", 1000.0, SETTINGS)
    written = [OK._replace(at=1.5), OK._replace(at=2.5, status=0, backend="", failure="reset")]
    for record in written:
        writer.record(record)
    writer.pause(2, 0.25)
    writer.close(End(3, 0.5))
    assert read(tmp_path / "r") == Run(1000.0, SETTINGS, written, [(2, 0.25)], End(3, 0.5))


def test_cut_off_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r", 1000.0, SETTINGS)
    for record in steady()[:50]:
        writer.record(record)
    writer.flush()
    flushed = (tmp_path / "r").stat().st_size
    assert read(tmp_path / "r").records == steady()[:50]
    for record in steady()[50:]:
        writer.record(record)
    writer.flush()
    whole = (tmp_path / "r").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: (flushed + len(whole)) // 2])
    cut = read(tmp_path / "cut")
    assert 50 <= len(cut.records) < 100
    assert cut.records == steady()[: len(cut.records)]
    found = summarise(cut)
    assert not found.complete
    assert found.sent == found.offered == len(cut.records)
