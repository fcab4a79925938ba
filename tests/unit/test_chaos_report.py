"""The report's numbers, against hand-made runs with known answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from chaos_runs import BACKENDS, EPOCH, STAYS_IN, UNDONE, Made, frozen
from evenkeel.chaos.__main__ import main
from evenkeel.chaos.report import charts
from evenkeel.load.records import Record


def judge(folder: Path, code: int, *, drawn: bool = False) -> dict[str, Any]:
    """Report a run, hold the exit code against the one wanted, and return the journal with its objectives by key.

    Drawing takes most of the time, and says nothing of the numbers.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr(charts, "png_or_svg", lambda *_: b"")
            patch.setattr(charts, "svgs", lambda *_: {"wide": "<svg></svg>", "narrow": "<svg></svg>"})
        assert main(["report", str(folder)]) == code
    content: dict[str, Any] = json.loads((folder / "journal.json").read_text())
    content["objectives"] = {each["key"]: each for each in content["objectives"]}
    return content


def deviated(content: dict[str, Any]) -> set[str]:
    return {key for key, each in content["objectives"].items() if each["status"] == "deviated"}


def test_reboot_that_nobody_notices_is_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = judge(Made().write(tmp_path), 0)
    assert found["verdict"] == "held"
    assert deviated(found) == set()
    values = {key: each["value"] for key, each in found["objectives"].items()}
    # Samples are at x.2 s and took 0.01 s: out from 1.0 s is seen at 1.21 s, back from 12.0 s at 12.21 s.
    assert values["detect"] == pytest.approx(1.21)
    assert values["recover"] == pytest.approx(12.21)
    assert values["failed_get"] == values["failed_post"] == 0
    assert values["longest_gap"] == pytest.approx(1 / 30, abs=1e-4)
    assert values["rps_floor"] == 1
    assert values["p99"] == pytest.approx(0.01)
    assert found["figures"]["shares"]["during"]["counts"] == {"backend-2": 150, "backend-3": 150}
    assert found["objectives"]["share_before"]["value"] == pytest.approx(0, abs=0.01)
    assert found["balancers"] == {"retries": 3, "redispatches": 0, "5xx": 0}
    assert found["injected_at"] == EPOCH
    assert "reboot at backend-1: HELD" in capsys.readouterr().out


def test_report_names_the_service_that_was_struck(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made()
    made.plan["service"] = "shop"
    folder = made.write(tmp_path)
    assert judge(folder, 0)["service"] == "shop"
    assert "reboot at backend-1, service shop: HELD" in capsys.readouterr().out
    assert "<h1>reboot at backend-1, service shop</h1>" in (folder / "report.html").read_text()


def test_freeze_of_six_seconds_shows_in_p99_gap_and_floor(tmp_path: Path) -> None:
    found = judge(Made().write(tmp_path, frozen), 1)
    assert deviated(found) == {"longest_gap", "rps_floor", "p99"}
    # 180 of 366 requests waited, the last of them least: the 99th percentile lies 4 requests below 6 s.
    assert found["objectives"]["p99"]["value"] == pytest.approx(6 - 3 / 30, abs=0.04)
    # The last answer before came at 5 - 1/30 + 0.01.
    assert found["objectives"]["longest_gap"]["value"] == pytest.approx(6 + 1 / 30 - 0.01, abs=1e-3)
    assert found["objectives"]["rps_floor"]["value"] == 0
    assert found["figures"]["latency"]["before"]["p99"] == pytest.approx(0.01)


def test_failed_gets_and_posts_are_told_apart(tmp_path: Path) -> None:
    def fail(record: Record) -> Record:
        # Three seconds without backend-2: 90 requests due, 9 of them POST; and all POSTs of the fault's first second.
        if 20 <= record.at < 21 or (0 <= record.at < 1 and record.method == "POST"):
            return record._replace(status=503, failure="status")
        return record

    found = judge(Made().write(tmp_path, fail), 1)
    assert deviated(found) == {"failed_get", "failed_post", "rps_floor", "longest_gap"}
    assert found["figures"]["failures"] == {"GET": {"status": 27}, "POST": {"status": 6}}
    assert found["figures"]["failed_in_flight"] == {"GET": 0, "POST": 3}
    assert found["objectives"]["failed_post"]["value"] == 3
    assert found["objectives"]["rps_floor"]["detail"].startswith("of those due in a second; the worst begins at +20 s")
    assert len(found["failed_requests"]) == 20


def test_target_that_never_comes_back(tmp_path: Path) -> None:
    found = judge(Made(out=(1.0, 1e9)).write(tmp_path), 1)
    assert deviated(found) == {"recover"}
    assert found["objectives"]["recover"]["figure"] == "never"
    assert found["objectives"]["share_after"]["status"] == "not judged"
    assert found["figures"]["until"] == 60


def test_target_that_is_up_but_never_answers_has_not_recovered(tmp_path: Path) -> None:
    def elsewhere(record: Record) -> Record:
        return record._replace(backend="backend-2") if record.at > 1 and record.backend == BACKENDS[0] else record

    assert "recover" in deviated(judge(Made().write(tmp_path, elsewhere), 1))


def test_fault_that_no_balancer_noticed(tmp_path: Path) -> None:
    found = judge(Made(out=None).write(tmp_path), 1)
    assert deviated(found) == {"detect", "recover"}


def test_flap_between_two_samples_is_seen_by_the_count_of_downs(tmp_path: Path) -> None:
    made = Made(out=None)
    sampled = lambda at: {  # noqa: E731
        **made.sample(at),
        "servers": {name: {"status": "UP", "chkdown": int(at > 1.5 and name == BACKENDS[0])} for name in BACKENDS},
    }
    found = judge(made.write(tmp_path, sampled=sampled), 0)
    assert found["objectives"]["detect"]["value"] == pytest.approx(2.21)


def test_fault_that_leaves_the_target_in(tmp_path: Path) -> None:
    made = Made(out=None)
    made.plan |= {"fault": "latency"} | STAYS_IN | UNDONE
    found = judge(made.write(tmp_path), 0)
    assert found["objectives"]["detect"]["status"] == "not judged"
    assert "share_during" not in found["objectives"]
    # From undone (11 s) to the next sample.
    assert found["objectives"]["recover"]["value"] == pytest.approx(0.21)


def test_recovery_counts_from_the_end_of_a_fault_that_is_undone(tmp_path: Path) -> None:
    made = Made()
    made.plan |= {"fault": "poweroff"} | UNDONE
    assert judge(made.write(tmp_path), 0)["objectives"]["recover"]["value"] == pytest.approx(1.21)


def test_killed_balancer_recovers_when_it_answers_again(tmp_path: Path) -> None:
    made = Made(out=None)
    made.plan |= {"fault": "kill_balancer", "target": "balancer"} | STAYS_IN
    found = judge(
        made.write(tmp_path, sampled=lambda at: {"error": "no connection"} if 0 < at < 3 else made.sample(at)), 0
    )
    assert found["objectives"]["recover"]["value"] == pytest.approx(3.21)
    assert any("balancer gives no statistics: no connection." in event["text"] for event in found["events"])


def test_every_balancer_must_notice(tmp_path: Path) -> None:
    folder = Made().write(tmp_path)
    lines = [json.loads(line) for line in (folder / "haproxy.jsonl").read_text().splitlines()]
    # A second balancer that sees everything two seconds later.
    later = [{**line, "balancer": "other", "at": line["at"] + 2} for line in lines]
    (folder / "haproxy.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + later))
    found = judge(folder, 1)
    assert found["objectives"]["detect"]["value"] == pytest.approx(3.21)
    assert deviated(found) == {"detect"}


def test_time_to_detect_does_not_count_the_striking(tmp_path: Path) -> None:
    # The commands took nine seconds until packets vanished, and the target answered until then.
    made = Made(out=(10.3, 22.0))
    made.marks |= {"injected": 9.05, "undone": 20.0}
    made.plan |= {"fault": "blackhole"} | UNDONE
    silent = lambda record: (  # noqa: E731
        record._replace(backend="backend-2") if 9 <= record.at < 22 and record.backend == BACKENDS[0] else record
    )

    def sampled(at: float) -> dict[str, Any]:
        # Of the fixture, one that was down at once.
        return {
            **made.sample(at),
            "servers": {name: {**row, "chkdown": 0} for name, row in made.sample(at)["servers"].items()},
        }

    found = judge(made.write(tmp_path, silent, sampled), 0)
    assert found["figures"]["held"] == pytest.approx(9.0, abs=0.2)
    assert found["objectives"]["detect"]["value"] == pytest.approx(2.2, abs=0.2)
    assert "from its last answer while it was struck, at +" in found["objectives"]["detect"]["detail"]
    # Where it is drawn and annotated, it is a time of the run.
    assert found["times"]["detected"] == pytest.approx(11.21)


def test_clock_that_was_set_back_is_no_negative_time(tmp_path: Path) -> None:
    reason = "The clock of the machine that ran this was set back meanwhile: its times say nothing."
    for number, marks in enumerate(({"undone": -2.0}, {"end": 40.0})):
        made = Made()
        made.marks |= marks
        found = judge(made.write(tmp_path / str(number)), 3, drawn=True)
        assert (found["verdict"], found["reasons"]) == ("incomplete", [reason])


def test_what_nobody_watched_is_not_held(tmp_path: Path) -> None:
    # It passes by itself: no mark says until when it had to be watched.
    made = Made(out=None, watched=(-20, 3))
    made.plan |= {"fault": "kill_app"} | STAYS_IN
    del made.marks["undone"]
    found = judge(made.write(tmp_path / "short"), 3, drawn=True)
    assert found["reasons"] == ["The sampler ended before the load: it saw balancer last at +2.2 s."]
    made = Made()
    made.plan["hosts"]["balancers"].append("other")
    found = judge(made.write(tmp_path / "other"), 3, drawn=True)
    assert found["reasons"] == ["other was never seen: there are no samples of its statistics."]


def test_fault_that_failed_to_be_injected_is_not_held(tmp_path: Path) -> None:
    made = Made(out=None)
    made.plan |= {"fault": "stall"} | STAYS_IN | UNDONE
    del made.marks["injected"]
    found = judge(made.write(tmp_path), 3)
    assert found["reasons"] == ["The fault was never in force as a whole: the timeline has no injected."]


def test_what_was_never_sent_has_not_held(tmp_path: Path) -> None:
    found = judge(Made().write(tmp_path, lambda record: record._replace(method="GET")), 0)
    assert found["objectives"]["failed_get"]["status"] == "held"
    assert found["objectives"]["failed_post"] | {"title": ""} == {
        "key": "failed_post", "title": "", "goal": "≤ 0", "figure": "-", "value": None, "status": "not judged",
        "detail": "none was sent",
    }  # fmt: skip


def test_balancer_that_lost_a_server_has_not_recovered(tmp_path: Path) -> None:
    made = Made(out=None)
    made.plan |= {"fault": "reload_balancer", "target": "balancer"} | STAYS_IN

    def sampled(at: float) -> dict[str, Any]:
        content = made.sample(at)
        if at > 0:
            del content["servers"]["backend-3"]
        return content

    assert "recover" in deviated(judge(made.write(tmp_path, sampled=sampled), 1))


def test_backend_that_prometheus_knows_nothing_of_is_named(tmp_path: Path) -> None:
    folder = Made().write(tmp_path)
    content = json.loads((folder / "prometheus.json").read_text())
    del content["graphs"]["CPU per backend"]["backend-2"]
    (folder / "prometheus.json").write_text(json.dumps(content))
    judge(folder, 0)
    assert "Prometheus had none of backend-2." in (folder / "report.html").read_text()


def test_requests_that_take_long_by_right_are_no_dip(tmp_path: Path) -> None:
    def slow(record: Record) -> Record:
        # Those of every other ten seconds sleep for a second.
        return record._replace(path="/sleep/1", latency=1.01) if int(record.at + 20) // 10 % 2 else record

    found = judge(Made().write(tmp_path, slow), 1)
    assert found["objectives"]["rps_floor"]["value"] == 1
    # Nothing was lost, but nothing came for that second either: the gap says so.
    assert deviated(found) == {"longest_gap", "p99"}


def test_generator_that_was_late_voids_the_run(tmp_path: Path) -> None:
    found = judge(Made(late=0.7).write(tmp_path, frozen), 3)
    assert found["verdict"] == "void"
    assert found["reasons"][0] == "The generator was up to 0.700 s late; 0.5 s is the limit."
    assert not ET.parse(tmp_path / "junit.xml").findall("testcase/failure")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Made(marks={"inject": 0.0}), "The run was cut off: its timeline has no end."),
        (Made(ended=False), "The load generator was killed: its records have no end."),
        (Made(stop=8), "The load ended before the fault was undone."),
        (Made(watched=(-20, 5)), "The sampler ended before the fault was undone."),
        (Made(watched=(0, 0)), "No balancer was ever seen: there are no samples of its statistics."),
    ],
)
def test_run_that_was_cut_off_is_reported_and_not_held(tmp_path: Path, made: Made, reason: str) -> None:
    found = judge(made.write(tmp_path), 3, drawn=True)
    assert (found["verdict"], found["reasons"]) == ("incomplete", [reason])
    assert reason in (tmp_path / "report.html").read_text()
    cases = ET.parse(tmp_path / "junit.xml").getroot()
    assert (cases.get("errors"), len(cases.findall("testcase/skipped"))) == ("1", len(found["objectives"]))


def test_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    folder = Made().write(tmp_path)
    with (folder / "haproxy.jsonl").open("a") as file:
        file.write('{"at": 18000')
    judge(folder, 0)


def test_objectives_are_data(tmp_path: Path) -> None:
    made = Made()
    made.plan |= {"slo": {"recover": "5", "detect": 1}}
    assert deviated(judge(made.write(tmp_path), 1)) == {"recover", "detect"}


def test_files_of_a_report(tmp_path: Path) -> None:
    made = Made()
    made.plan |= {"settings": {"odd": "<script>alert(1)</script>"}}
    judge(made.write(tmp_path, frozen), 1, drawn=True)
    for name in ("cpu", "rps-backends", "rps-total"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "report.html").read_text()
    # Nothing is fetched: namespaces and links inside the SVG are all that looks like an address.
    outside = set(re.findall(r"(?:src|href)=\"(?!#)([^\"]+)", html)) | set(re.findall(r"url\((?!#)([^)]*)", html))
    assert outside == set()
    assert "<script" not in html
    assert "<strong>deviated</strong>" in html
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert suite.get("failures") == "3"
    assert [case.get("name") for case in suite.findall("testcase") if case.find("failure") is not None] == [
        "Longest gap",
        "RPS floor",
        "p99 during the fault",
    ]
    summary = (tmp_path / "summary.md").read_text()
    assert "**DEVIATED: the site left its objectives.**" in summary
    assert "| +1.2 | balancer has backend-1 DOWN (was UP). |" in summary
    assert "| +5.0 | Alert BackendDown backend-1 fires (until +5 s). |" in summary


def test_report_without_prometheus_says_so_in_the_graphs_place(tmp_path: Path) -> None:
    folder = Made().write(tmp_path)
    (folder / "prometheus.json").unlink()
    judge(folder, 0, drawn=True)
    assert "No CPU figures. The sampler wrote none: it was killed." in (folder / "report.html").read_text()


def test_site_that_never_answers_is_reported(tmp_path: Path) -> None:
    found = judge(
        Made().write(tmp_path, lambda record: record._replace(status=0, backend="", failure="connect")), 1, drawn=True
    )
    assert {"failed_get", "failed_post", "longest_gap", "rps_floor", "p99", "recover"} <= deviated(found)
    assert found["objectives"]["p99"]["figure"] == "no answers"


def test_load_that_was_killed_at_once_is_reported(tmp_path: Path) -> None:
    found = judge(Made(stop=-20, ended=False).write(tmp_path), 3, drawn=True)
    assert found["reasons"][0] == "Nothing was sent."
