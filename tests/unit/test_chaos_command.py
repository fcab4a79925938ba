"""The chaos command: what it refuses, its marks, and its page over several runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from chaos_runs import Made, frozen
from evenkeel.chaos.__main__ import main
from evenkeel.chaos.report.index import score


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence of a refusal."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("chaos: ")
    assert said.count("\n") == 1
    return said.removeprefix("chaos: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "/nowhere"], "The folder /nowhere doesn't exist."),
        (["mark", "/nowhere", "inject"], "The folder /nowhere doesn't exist."),
        (["mark", "/tmp", "injects"], "There is no mark 'injects': there are begin, steady, inject,"),
        (["watch", "/nowhere", "--haproxy", "http://127.0.0.1:9"], "The folder /nowhere doesn't exist."),
        (["watch", "/tmp", "--haproxy", "x"], "--haproxy must look like NAME=http://host:port or http://host:port"),
        (["watch", "/tmp"], "The following arguments are required: --haproxy."),
        (["start", "/nowhere"], "The folder /nowhere doesn't exist."),
        (["stop", "/tmp"], "Nobody supervises the run in /tmp any more: see"),
        (["steady", "/nowhere"], "The folder /nowhere doesn't exist."),
        (["annotate", "/nowhere", "--grafana", "http://127.0.0.1:9"], "The file /nowhere/journal.json can't be read"),
        (["index", "/nowhere", "--output", "/tmp/index.html"], "The folder /nowhere doesn't exist."),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refuse(arguments, capsys).startswith(sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {},
            "balancer gives no statistics at http://127.0.0.1:9: no connection. If it runs: name this machine in",
        ),
        ({"haproxy": {}}, "Nobody knows where balancer gives its statistics (chaos_statistics), so nobody can ask it."),
        ({"slo": {"gap": 1}}, "There is no objective 'gap': there are failed_get,"),
        ({"target": "backend-9"}, "The target 'backend-9' of run.json is none of its hosts."),
    ],
)
def test_site_is_checked_by_the_plan_on_stdin(
    change: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"haproxy": {"balancer": "http://127.0.0.1:9"}, "prometheus": "", "max_unavailable": 1}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(Made().plan | asked | change)))
    assert refuse(["check"], capsys).startswith(sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "backend-9"}, "The target 'backend-9' of run.json is none of its hosts."),
        ({"fault": 3}, "run.json must have fault as a text."),
        ({"hosts": {"backends": []}}, "run.json must name the backends as a list of texts in hosts.backends."),
        ({"slo": {"gap": 1}}, "There is no objective 'gap': there are failed_get, failed_post,"),
        ({"slo": {"p99": "fast"}}, "The objective p99 must be a number of 0 or more, not 'fast'."),
        ({"slo": {"p99": -1}}, "The objective p99 must be a number of 0 or more, not -1."),
        ({"takes_out": "yes"}, "takes_out in run.json must be true or false, not 'yes'."),
        ({"takes_out": None}, "takes_out in run.json must be true or false, not None."),
        ({"target": "balancer", "takes_out": True}, "takes_out in run.json can't be true: only a backend leaves"),
        ({"recover_from": None}, "recover_from in run.json must be inject or undone, not None."),
        ({"recover_from": "end"}, "recover_from in run.json must be inject or undone, not 'end'."),
    ],
)
def test_bad_plan_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    made.plan |= change
    assert refuse(["report", str(made.write(tmp_path))], capsys).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("run.json", None, "The file {} can't be read: No such file or directory."),
        ("run.json", "{", "The file {} is no JSON: "),
        ("run.json", "[]", "The file {} must hold a JSON object."),
        ("timeline.jsonl", None, "The file {} can't be read: No such file or directory."),
        ("timeline.jsonl", "x\n", "The file {} has no JSON object in line 1."),
        ("timeline.jsonl", '{"at": 1}\n', "The file {} has a line that is no mark."),
        ("load.jsonl.gz", None, "The file {} can't be read: No such file or directory."),
        ("load.jsonl.gz", "x", "The file {} is not one that evenkeel load has written."),
        ("haproxy.jsonl", '{"at": 1}\n', "The file {} has a line that is no sample."),
    ],
)
def test_broken_file_is_one_sentence(
    tmp_path: Path, name: str, content: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Made().write(tmp_path) / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert refuse(["report", str(tmp_path)], capsys).startswith(sentence.format(path))


def test_run_that_never_injected_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Made(marks={"begin": -20.0, "end": 0.0}).write(tmp_path)
    assert "never injected its fault (no mark inject)" in refuse(["report", str(tmp_path)], capsys)


def test_marks_are_appended_with_their_time(tmp_path: Path) -> None:
    assert main(["mark", str(tmp_path), "inject"]) == 0
    assert main(["mark", str(tmp_path), "note", "all is well"]) == 0
    first, second = (json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines())
    assert (first["name"], second["name"], second["text"]) == ("inject", "note", "all is well")
    assert 0 < first["at"] <= second["at"]


def test_index_scores_what_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"held": Made(), "late": Made(late=0.7), "cut": Made(ended=False), "frozen": Made(), "none": Made()}
    for name, made in runs.items():
        made.write(tmp_path / name, frozen if name == "frozen" else lambda record: record)
        if name != "none":
            main(["report", str(tmp_path / name)])
    capsys.readouterr()
    assert main(["index", *(str(tmp_path / name) for name in runs)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("resilience 25 %: 1 of 4 hypotheses held (2 of the others were cut off). 1 did not count")
    page = (tmp_path / "index.html").read_text()
    assert page.count('href="frozen/report.html"') == 1
    assert "The run has no report." in page
    assert main(["index", str(tmp_path / "held")]) == 0
    assert main(["index", str(tmp_path / "held"), str(tmp_path / "late")]) == 3


@pytest.mark.parametrize(
    ("verdicts", "text", "verdict"),
    [
        (["held"] * 3, "100 %", "held"),
        (["held", "held", "deviated"], "66 %", "deviated"),
        (["held", "void"], "100 %", "void"),
        (["void"], "no score", "void"),
    ],
)
def test_score(verdicts: list[str], text: str, verdict: str) -> None:
    assert (score(verdicts).text, score(verdicts).verdict) == (text, verdict)
