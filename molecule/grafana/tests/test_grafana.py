"""Grafana, or on a closed machine its stand-in, with a stub of Prometheus beside it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from scenario import PROJECT, Scenario, recap, wait_until

CONVERGE = "molecule/grafana/converge.yml"
HOST = "grafana-1"
STUB = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/-/ready" or self.path.startswith("/api/v1/query")
        content = b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}'
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)
    do_POST = do_GET
http.server.HTTPServer(("127.0.0.1", 9090), Handler).serve_forever()
"""


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host(HOST)


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses[HOST]}:3000"


@pytest.fixture
def password_file(scenario: Scenario) -> Path:
    return scenario.inventory.parent / "grafana_password"


@pytest.fixture
def admin(password_file: Path) -> tuple[str, str]:
    return "admin", password_file.read_text().strip()


@pytest.fixture
def standin(url: str) -> bool:
    """Tell whether this is the stand-in, which refuses what Grafana ignores."""
    return "standin" in get(url, "/api/health").json()["version"]


def get(url: str, path: str, login: tuple[str, str] | None = None) -> requests.Response:
    return requests.get(f"{url}{path}", auth=login, timeout=60)


def answers(url: str) -> bool:
    try:
        return bool(get(url, "/api/health").json()["database"] == "ok")
    except (requests.RequestException, ValueError):
        return False


def main_pid(host: Any) -> int:
    return int(host.check_output("systemctl show grafana-server --property=MainPID --value"))


def play(scenario: Scenario, *arguments: str) -> dict[str, int]:
    """Run the role once more and return its counters."""
    run = scenario.play(CONVERGE, *arguments)
    assert run.returncode == 0, run.stdout
    return recap(run.stdout)[HOST]


def reset(host: Any, password: str) -> None:
    """Set the admin's password behind the role's back."""
    command = "printf %s | runuser -u grafana -- grafana cli admin reset-admin-password --password-from-stdin"
    host.check_output(command, password)


def test_package_comes_from_the_signed_repository(scenario: Scenario, host: Any) -> None:
    variables = yaml.safe_load(scenario.inventory.read_text())["all"]["vars"]
    role = yaml.safe_load((PROJECT / "roles/grafana/defaults/main.yml").read_text())
    sources = host.file("/etc/apt/sources.list.d/grafana.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/grafana.asc" in sources
    assert "trusted" not in sources.lower()
    assert host.package("grafana").version == variables.get("grafana_version", role["grafana_version"])
    uri = next(line.split()[1] for line in sources.splitlines() if line.startswith("URIs:"))
    assert f"{uri} stable/main" in host.check_output("apt-cache policy grafana")


def test_answers_on_its_own_address_only(host: Any, url: str) -> None:
    assert answers(url)
    listening = host.check_output("ss -Hltn 'sport = :3000'").split("\n")
    assert [line.split()[3] for line in listening] == [url.removeprefix("http://")]
    assert host.service("grafana-server").is_enabled


@pytest.mark.parametrize("login", [None, ("admin", "admin"), ("admin", "")])
def test_stranger_and_default_password_are_refused(url: str, login: tuple[str, str] | None) -> None:
    assert get(url, "/api/datasources", login).status_code == 401


def test_generated_password_works_and_is_the_users_alone(url: str, admin: tuple[str, str], password_file: Path) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{32}", admin[1])
    assert get(url, "/api/user", admin).status_code == 200
    form = requests.post(f"{url}/login", json={"user": admin[0], "password": admin[1]}, timeout=60)
    assert form.status_code == 200
    assert password_file.stat().st_mode & 0o777 == 0o600


def test_datasource_is_provisioned(url: str, admin: tuple[str, str]) -> None:
    (found,) = get(url, "/api/datasources", admin).json()
    assert (found["uid"], found["type"], found["url"]) == ("prometheus", "prometheus", "http://127.0.0.1:9090")
    assert found["jsonData"]["timeInterval"] == "1s"
    assert found["readOnly"] is True


def test_datasource_health_tells_whether_prometheus_answers(host: Any, url: str, admin: tuple[str, str]) -> None:
    path = "/api/datasources/uid/prometheus/health"
    assert get(url, path, admin).json()["status"] == "ERROR"
    host.check_output("systemd-run --unit=prometheus-stub python3 -c %s", STUB)
    try:
        wait_until(lambda: get(url, path, admin).json()["status"] == "OK", "the datasource answers")
    finally:
        host.check_output("systemctl stop prometheus-stub")


def test_dashboards_are_the_committed_ones(url: str, admin: tuple[str, str]) -> None:
    for path in (PROJECT / "files" / "dashboards").glob("*.json"):
        committed = json.loads(path.read_text())
        found = get(url, f"/api/dashboards/uid/{committed['uid']}", admin).json()
        assert found["meta"]["provisioned"] is True
        assert [panel["title"] for panel in found["dashboard"]["panels"]] == [
            panel["title"] for panel in committed["panels"]
        ]
        # Not raised to Grafana's own minimum of 5s.
        assert found["dashboard"]["refresh"] == committed["refresh"]


def test_annotations_are_kept_by_tag(url: str, admin: tuple[str, str]) -> None:
    body = {"time": 1_000, "timeEnd": 2_000, "tags": ["fault"], "text": "backend-1 stopped"}
    made = requests.post(f"{url}/api/annotations", json=body, auth=admin, timeout=60).json()
    found = get(url, "/api/annotations?tags=fault&from=1&to=5000", admin).json()
    assert [(item["text"], item["timeEnd"]) for item in found] == [("backend-1 stopped", 2_000)]
    assert get(url, "/api/annotations?tags=deploy&from=1&to=5000", admin).json() == []
    gone = requests.delete(f"{url}/api/annotations/{made['id']}", auth=admin, timeout=60)
    assert gone.status_code == 200
    assert get(url, "/api/annotations?tags=fault&from=1&to=5000", admin).json() == []


def test_removed_dashboard_leaves_and_new_one_comes_without_a_restart(
    scenario: Scenario, host: Any, url: str, admin: tuple[str, str], tmp_path: Path
) -> None:
    pid = main_pid(host)
    (tmp_path / "other.json").write_text(json.dumps({"uid": "other", "title": "Other", "panels": [{"id": 1}]}))
    try:
        assert play(scenario, "-e", f"grafana_dashboards_dir={tmp_path}")["changed"] == 2
        wait_until(
            lambda: [item["uid"] for item in get(url, "/api/search?type=dash-db", admin).json()] == ["other"],
            "only the new dashboard is there",
        )
    finally:
        play(scenario)
    assert [item["uid"] for item in get(url, "/api/search?tag=evenkeel", admin).json()] == ["evenkeel-site"]
    assert main_pid(host) == pid


def test_wrong_password_in_the_database_is_repaired_once(
    scenario: Scenario, host: Any, url: str, admin: tuple[str, str]
) -> None:
    pid = main_pid(host)
    reset(host, "somebody-elses")
    assert get(url, "/api/user", admin).status_code == 401
    assert play(scenario)["changed"] == 1
    assert get(url, "/api/user", admin).status_code == 200
    assert get(url, "/api/user", ("admin", "somebody-elses")).status_code == 401
    assert play(scenario)["changed"] == 0
    assert main_pid(host) == pid


def test_password_of_a_vault_wins_and_no_secret_leaks(
    scenario: Scenario, host: Any, url: str, admin: tuple[str, str], tmp_path: Path
) -> None:
    vault = tmp_path / "vault.yml"
    vault.write_text("grafana_admin_password: 'v4ult; #secret%'\n")
    secrets = ("v4ult; #secret%", admin[1])
    # Encoded: sudo writes the tests' own commands into the journal.
    patterns = base64.b64encode("\n".join(secrets).encode()).decode()
    host.check_output("umask 077 && echo %s | base64 -d >/root/patterns", patterns)
    # All command lines of the host, again and again.
    watch = "while :; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >>/root/cmdlines; sleep 0.05; done"
    host.check_output("rm -f /root/cmdlines; systemd-run --unit=watch sh -c %s", watch)
    try:
        there = scenario.play(CONVERGE, "-vv", "--diff", "-e", f"@{vault}")
        assert there.returncode == 0, there.stdout
        assert get(url, "/api/user", ("admin", secrets[0])).status_code == 200
    finally:
        back = scenario.play(CONVERGE, "-vv", "--diff")
        host.check_output("systemctl stop watch")
    assert get(url, "/api/user", admin).status_code == 200
    for secret in secrets:
        assert secret not in there.stdout + there.stderr + back.stdout + back.stderr
    readable = "find /etc /var /tmp /run /usr/share/grafana /home -xdev -type f -perm /o=r -size -20M -print0"
    assert host.run("journalctl --no-pager --output=export | grep -aF -f /root/patterns").stdout == ""
    assert host.run("grep -aF -f /root/patterns /root/cmdlines").stdout == ""
    assert host.run(f"{readable} | xargs -0 grep -laF -f /root/patterns").stdout == ""
    # The search can find something: the commands were seen, and both runs did reset the password.
    assert "reset-admin-password" in host.check_output("cat /root/cmdlines")
    assert [recap(run.stdout)[HOST]["changed"] for run in (there, back)] == [1, 1]


def test_killed_grafana_comes_back(host: Any, url: str) -> None:
    pid = main_pid(host)
    host.check_output("kill -9 %s", str(pid))
    wait_until(lambda: main_pid(host) not in {0, pid} and answers(url), "Grafana is back")
    # Soon, whatever ended it, and however often.
    properties = host.check_output(
        "systemctl show grafana-server --property=Restart,RestartUSec,StartLimitIntervalUSec"
    )
    assert set(properties.split("\n")) == {"Restart=always", "RestartUSec=1s", "StartLimitIntervalUSec=0"}


def test_changed_setting_restarts_once(scenario: Scenario, host: Any, url: str, admin: tuple[str, str]) -> None:
    starts = "journalctl --unit=grafana-server --output=cat | grep -c 'Started grafana-server' || true"
    before, pid = int(host.check_output(starts)), main_pid(host)
    options = json.dumps({"grafana_extra_options": {"users": {"default_theme": "light"}}})
    assert play(scenario, "-e", options)["changed"] == 2
    assert main_pid(host) != pid
    assert int(host.check_output(starts)) == before + 1
    content = host.file("/etc/grafana/grafana.ini").content_string
    assert "default_theme = light" in content
    assert "allow_sign_up = false" in content, "merged, not replaced"
    # A run that was cut off before its handler has put it back.
    host.check_output("sed -i '/default_theme = light/d' /etc/grafana/grafana.ini")
    pid = main_pid(host)
    play(scenario)
    assert main_pid(host) != pid
    assert get(url, "/api/user", admin).status_code == 200


def test_service_that_does_not_start_fails_the_play_with_its_own_words(
    scenario: Scenario, url: str, standin: bool
) -> None:
    if not standin:
        pytest.skip("Grafana ignores unknown keys")
    try:
        options = '{"grafana_extra_options": {"server": {"http_adr": "127.0.0.1"}}, "grafana_start_seconds": 10}'
        run = scenario.play(CONVERGE, "-e", options)
        assert run.returncode == 2, run.stdout
        assert "[server] has no key `http_adr`; did you mean `http_addr`?" in run.stdout
    finally:
        play(scenario)
    assert answers(url)


def test_datasource_without_its_plugin_fails_the_play(scenario: Scenario, host: Any, standin: bool) -> None:
    if not standin:
        pytest.skip("where Grafana has it differs from version to version")
    plugin = "/usr/share/grafana/data/plugins-bundled/prometheus"
    host.check_output("mv %s /root/plugin", plugin)
    try:
        # The datasource itself is there.
        run = scenario.play(CONVERGE, "-e", "grafana_start_seconds=10")
        assert run.returncode == 2, run.stdout
        assert "Grafana lacks the plugin for it" in " ".join(run.stdout.split())
    finally:
        host.check_output("mv /root/plugin %s", plugin)
    play(scenario)


def test_prometheus_that_does_not_answer_fails_where_it_must(scenario: Scenario) -> None:
    run = scenario.play(CONVERGE, "-e", "grafana_prometheus_required=true", "-e", "grafana_start_seconds=10")
    assert run.returncode == 2, run.stdout
    assert "Prometheus does not answer at http://127.0.0.1:9090" in " ".join(run.stdout.split())


def test_diff_shows_no_secret_and_everything_else(scenario: Scenario, host: Any) -> None:
    # Nor does it where the host's file holds one of a former release, or of somebody else.
    before = host.file("/etc/grafana/grafana.ini").content_string
    host.check_output("printf '[smtp]\npassword = 0ld-word\n' >>/etc/grafana/grafana.ini")
    options = {"smtp": {"enabled": True, "user": "somebody", "password": "n3w-word"}}
    options |= {"database": {"url": "mysql://grafana:db-word@127.0.0.1/grafana"}}
    try:
        run = scenario.play(CONVERGE, "--check", "--diff", "-vvv", "-e", json.dumps({"grafana_extra_options": options}))
    finally:
        host.run("printf %%s %s >/etc/grafana/grafana.ini", before)
    assert run.returncode == 0, run.stdout
    for secret in ("0ld-word", "n3w-word", "db-word"):
        assert secret not in run.stdout + run.stderr.replace(json.dumps(options), "")
    for line in ("+user = somebody", "+password = ******** (changed)", "-password = ********"):
        assert line in run.stdout


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        # What YAML makes of 0123456.
        ({"grafana_admin_password": 42798}, "grafana_admin_password is not a text: YAML took it for a number"),
        ({"grafana_admin_password": "first\nsecond"}, "grafana_admin_password has several lines"),
        ({"grafana_extra_options": {"smtp": {"password": 42798}}}, "smtp: password is not a text"),
        ({"grafana_scrape_interval": 1}, "grafana_scrape_interval is 1: give a time"),
    ],
)
def test_setting_that_cannot_be_meant_is_refused_before_any_change(
    scenario: Scenario, url: str, admin: tuple[str, str], variables: dict[str, Any], sentence: str
) -> None:
    run = scenario.play(CONVERGE, "-e", json.dumps(variables))
    assert run.returncode == 2, run.stdout
    assert sentence in " ".join(run.stdout.split())
    assert recap(run.stdout)[HOST]["changed"] == 0
    assert get(url, "/api/user", admin).status_code == 200


def test_held_package_is_named_before_any_change(scenario: Scenario, host: Any) -> None:
    host.check_output("apt-mark hold grafana")
    try:
        run = scenario.play(CONVERGE, "-e", "grafana_version=1.2.3")
    finally:
        host.check_output("apt-mark unhold grafana")
    assert run.returncode == 2, run.stdout
    assert "apt-mark unhold grafana, or set grafana_version" in " ".join(run.stdout.split())
    assert recap(run.stdout)[HOST]["changed"] == 0


def test_somebody_elses_grafana_is_refused_by_name_and_adopted_when_said(
    scenario: Scenario, host: Any, url: str, admin: tuple[str, str]
) -> None:
    theirs = "[server]\nhttp_port = 3000\n[users]\ndefault_theme = light\n"
    files = ["/etc/grafana/grafana.ini", "/var/lib/grafana/grafana.db"]
    host.check_output("printf %%s %s >/etc/grafana/grafana.ini", theirs)
    host.check_output("mkdir -p /etc/grafana/dashboards && echo '{}' >/etc/grafana/dashboards/theirs.json")
    reset(host, "somebody-elses")
    pid = main_pid(host)
    try:
        run = scenario.play(CONVERGE)
        said = " ".join(run.stdout.split())
        assert run.returncode == 2, run.stdout
        assert recap(run.stdout)[HOST]["changed"] == 0
        for file in files:
            assert f"{file} was not" in said.replace("'", ""), run.stdout
        assert "grafana_adopt: true" in said
        assert host.file("/etc/grafana/grafana.ini").content_string == theirs
        assert get(url, "/api/user", ("admin", "somebody-elses")).status_code == 200
        assert main_pid(host) == pid
    finally:
        play(scenario, "-e", "grafana_adopt=true")
    assert host.file(f"{files[0]}.before-evenkeel").content_string == theirs
    assert host.file(f"{files[1]}.before-evenkeel").exists
    assert host.file("/etc/grafana/dashboards/theirs.json").exists
    assert get(url, "/api/user", admin).status_code == 200
    # From now on it is this project's.
    play(scenario)
    assert play(scenario)["changed"] == 0
    host.check_output(
        "rm /etc/grafana/dashboards/theirs.json /etc/grafana/*.before-evenkeel %s.before-evenkeel", files[1]
    )


def test_standin_says_what_it_is(url: str, standin: bool) -> None:
    if not standin:
        pytest.skip("this is Grafana")
    assert "This is not Grafana" in get(url, "/").text
