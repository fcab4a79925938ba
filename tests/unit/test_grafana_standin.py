"""The stand-in for Grafana: what it refuses, and that it keeps passwords as Grafana does."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from grafana_standin import VERSION, StandinError, ini, provisioning
from grafana_standin.__main__ import main
from grafana_standin.dashboards import Dashboards
from grafana_standin.store import Store
from grafana_standin.web import Question, Site

DATASOURCE = {"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "url": "http://127.0.0.1:9"}
COMMITTED = Path(__file__).resolve().parents[2] / "files" / "dashboards"


def datasource_file(folder: Path, **content: object) -> Path:
    """Write a provisioning file (JSON is YAML) and return the provisioning folder."""
    (folder / "datasources").mkdir()
    (folder / "datasources" / "one.yml").write_text(json.dumps({"apiVersion": 1} | content))
    return folder


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[server]\nhttp_adr = x", r"line 2: \[server\] has no key `http_adr`; did you mean `http_addr`\?"),
        ("[servers]", r"there is no section \[servers\]; did you mean `server`\?"),
        ("[server]\nhttp_port = x", "http_port is `x`, which is not a whole number"),
        ("[server]\nhttp_port = 1\nhttp_port = 2", "has `http_port` twice"),
        ("[auth.anonymous]\nenabled = False", "`False`, which is not true or false"),
        ("[dashboards]\nmin_refresh_interval = 1", "is `1`, which is not a duration"),
        ("[server]\nhttp_port", "neither a section nor"),
    ],
)
def test_ini_that_grafana_would_ignore_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(StandinError, match=wanted):
        ini.parse(text)


def test_ini_is_read_with_quotes_comments_and_defaults(tmp_path: Path) -> None:
    file = tmp_path / "grafana.ini"
    file.write_text('# one\n; two\n[security]\nadmin_password = """a#b;c"""\n[server]\nhttp_addr = 127.0.0.1 ; here\n')
    settings = ini.load(file, {"paths.data": "/data", "server.http_addr": "0.0.0.0"})
    assert (settings.admin_password, settings.address, settings.port) == ("a#b;c", "127.0.0.1", 3000)
    assert (settings.data, settings.min_refresh) == (Path("/data"), 5)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"datasource": []}, "no key `datasource`"),
        ({"datasources": [DATASOURCE | {"tpe": 1}]}, "no key `tpe`"),
        ({"datasources": [DATASOURCE | {"uid": ""}]}, "Prometheus has no uid"),
        ({"datasources": [DATASOURCE, DATASOURCE]}, "ill-formed or taken"),
        ({"datasources": [DATASOURCE | {"jsonData": {"timeinterval": "1s"}}]}, "no key `timeinterval`"),
        ({"datasources": [DATASOURCE | {"jsonData": {"timeInterval": "one"}}]}, "`one` is no duration"),
        ({"apiVersion": 2}, "apiVersion is 2, not 1"),
    ],
)
def test_datasource_file_with_a_mistake_is_refused(tmp_path: Path, content: dict[str, object], wanted: str) -> None:
    with pytest.raises(StandinError, match=wanted):
        provisioning.datasources(datasource_file(tmp_path, **content))


def test_committed_dashboards_are_accepted_and_unknown_datasources_are_not() -> None:
    for file in COMMITTED.glob("*.json"):
        assert provisioning.dashboard(file, {"prometheus"}, 1)["refresh"] == json.loads(file.read_text())["refresh"]
        # As Grafana does with a refresh that is too fast for it.
        assert provisioning.dashboard(file, {"prometheus"}, 5)["refresh"] == "5s"
        with pytest.raises(StandinError, match="asks the datasource prometheus, which is not there"):
            provisioning.dashboard(file, {"other"}, 1)


def test_password_of_the_ini_counts_for_a_new_database_only(tmp_path: Path) -> None:
    assert Store(tmp_path, "admin", "first").accepts("admin", "first")
    again = Store(tmp_path, "admin", "second")
    assert again.accepts("admin", "first")
    assert not again.accepts("admin", "second")
    assert not again.accepts("nobody", "first")
    assert b"first" not in (tmp_path / "grafana.db").read_bytes()


def test_datasources_of_former_files_go_only_when_they_were_prunable(tmp_path: Path) -> None:
    store = Store(tmp_path, "admin", "admin")
    store.keep_datasources({"by hand": {}, "old": {}}, prunable={"old"})
    store.keep_datasources({"new": {}}, prunable={"new"})
    assert set(store.datasources()) == {"by hand", "new"}


def test_datasource_without_its_plugin_is_there_and_answers_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, "admin", "secret")
    store.keep_datasources({"prometheus": DATASOURCE}, prunable=[])
    site = Site(store, Dashboards([], [], 1, lambda *_: None), anonymous=True, plugins=tmp_path)

    def ask(path: str) -> tuple[int, Any]:
        answer = site.answer("GET", path, Question((), {}, {}), "", "")
        return answer.status, answer.content

    assert ask("/api/datasources/uid/prometheus")[0] == 200
    assert ask("/api/datasources/uid/prometheus/health")[1]["message"] == "Plugin not registered"
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / "plugin.json").write_text("{}")
    assert ask("/api/datasources/uid/prometheus/health")[1]["status"] == "ERROR"


def test_command_resets_the_password_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grafana.ini").write_text("")
    command = ["cli", f"--config={tmp_path}/grafana.ini", f"--configOverrides=cfg:default.paths.data={tmp_path}"]
    command += ["admin", "reset-admin-password", "--password-from-stdin"]
    monkeypatch.setattr("sys.stdin", io.StringIO("another secret"))
    assert main(command) == 0
    assert Store(tmp_path, "admin", "admin").accepts("admin", "another secret")
    monkeypatch.setattr("sys.stdin", io.StringIO("1234"))
    assert main(command) == 1
    output = capsys.readouterr()
    assert output.err == "Error: new password is too short\n"
    assert "secret" not in output.out


def test_server_with_a_bad_configuration_says_so_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grafana.ini").write_text("[nonsense]\n")
    assert main(["server", f"--config={tmp_path}/grafana.ini"]) == 1
    assert "there is no section [nonsense]" in capsys.readouterr().err


def test_api_is_closed_without_the_password_and_says_stand_in(tmp_path: Path) -> None:
    store = Store(tmp_path, "admin", "secret")
    store.keep_datasources({"prometheus": DATASOURCE}, prunable=["prometheus"])
    site = Site(store, Dashboards([], [], 1, lambda *_: None), anonymous=False)

    def ask(method: str, path: str, authorization: str = "", body: dict[str, Any] | None = None) -> tuple[int, Any]:
        answer = site.answer(method, path, Question((), {}, body or {}), authorization, "")
        return answer.status, answer.content

    good = "Basic " + base64.b64encode(b"admin:secret").decode()
    bad = "Basic " + base64.b64encode(b"admin:admin").decode()
    assert [ask("GET", "/api/datasources", header)[0] for header in ("", bad, "Basic !", good)] == [401, 401, 401, 200]
    assert ask("POST", "/api/annotations", good, {"text": "stop", "tags": ["fault"]}) == (
        200,
        {"id": 1, "message": "Annotation added"},
    )
    assert ask("POST", "/api/annotations", good, {"txt": "stop"})[0] == 400
    assert ask("GET", "/api/datasources/uid/prometheus/health", good)[0] == 400
    assert ask("POST", "/api/admin/users", good)[0] == 404
    health, page = ask("GET", "/api/health")[1], ask("GET", "/")[1]
    assert "standin" in health["version"] == VERSION
    assert "This is not Grafana" in page
    assert "stand-in" in page
