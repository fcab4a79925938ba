"""The engine on a host that has one already: what is merged, what is refused, what is restarted."""

from __future__ import annotations

import json
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from docker_engine import (
    _WITHOUT_ENGINE,
    EngineError,
    Found,
    Host,
    Plan,
    flags,
    former_releases,
    last_words,
    merge,
    parse_packages,
    plan,
    releasing,
    run,
    shown,
    union,
)

OURS: dict[str, Any] = {"live-restore": True, "log-opts": {"max-size": "10m"}, "registry-mirrors": ["http://a"]}
PACKAGES = ["docker-ce=5:29.8.2-*", "containerd.io=2.3.6-*", "docker-buildx-plugin=0.37.1-*", "python3-requests"]
INSTALLED = {"docker-ce": ("5:29.8.2-1~debian.13~trixie", False), "containerd.io": ("2.3.6-1~debian.13~trixie", False)}
CONFLICTING = ["docker.io", "docker-buildx", "podman-docker", "containerd"]


def planned(found: Found, newer: bool = False, **parameters: Any) -> Plan:
    """Return what the module would do."""
    defaults: dict[str, Any] = {"options": OURS, "adopt": False, "packages": PACKAGES, "conflicting": CONFLICTING}
    return plan({"path": "/etc/docker/daemon.json", **defaults, **parameters}, found, newer)


def record(owned: dict[str, Any], version: str = "5:29.8.2-1~debian.13~trixie") -> dict[str, Any]:
    """Return what a former run noted."""
    return {"owned": owned, "version": version}


# Merging.


def test_keys_of_both_live_together() -> None:
    theirs = {"data-root": "/srv/docker", "log-opts": {"tag": "x"}, "registry-mirrors": ["http://b"]}
    done = merge(theirs, OURS, {}, adopt=False)
    assert done.conflicts == []
    assert done.result == {
        "data-root": "/srv/docker",
        "live-restore": True,
        "log-opts": {"tag": "x", "max-size": "10m"},
        "registry-mirrors": ["http://a", "http://b"],
    }
    assert done.owned == OURS
    # A second run changes nothing, a third without settings leaves what was there.
    assert merge(done.result, OURS, done.owned, adopt=False) == done
    assert merge(done.result, {}, done.owned, adopt=False).result == theirs


def test_what_was_equal_before_us_is_never_removed() -> None:
    done = merge(
        {"live-restore": True, "dns": ["9.9.9.9"]}, {"live-restore": True, "dns": ["9.9.9.9"]}, {}, adopt=False
    )
    assert done.owned == {}
    assert merge(done.result, {}, done.owned, adopt=False).result == done.result


def test_our_own_value_is_changed_and_drift_is_mended() -> None:
    done = merge({"log-driver": "journald"}, {"log-driver": "local"}, {"log-driver": "json-file"}, adopt=False)
    assert done.result == {"log-driver": "local"}
    assert done.conflicts == []


def test_conflict_is_named_and_replaced_only_when_said() -> None:
    theirs = {"log-driver": "journald", "log-opts": {"max-size": "1g"}}
    wanted = {"log-driver": "json-file", "log-opts": {"max-size": "10m"}}
    done = merge(theirs, wanted, {}, adopt=False)
    assert done.conflicts == [
        'log-driver is "journald" there, and this project needs "json-file"',
        'log-opts.max-size is "1g" there, and this project needs "10m"',
    ]
    assert done.result == theirs
    adopted = merge(theirs, wanted, {}, adopt=True)
    assert (adopted.result, adopted.owned, adopted.conflicts) == (wanted, wanted, [])


def test_values_of_other_kinds_are_conflicts() -> None:
    assert merge({"dns": "1"}, {"dns": ["1"]}, {}, adopt=False).conflicts
    assert merge({"log-opts": []}, {"log-opts": {"a": "1"}}, {}, adopt=False).conflicts


def test_nothing_wanted_is_not_written_and_not_removed() -> None:
    assert merge({}, {"registry-mirrors": []}, {}, adopt=False).result == {}
    same: dict[str, Any] = {"registry-mirrors": []}
    assert merge(same, same, same, adopt=False).result == same


def test_file_of_a_former_release_is_ours() -> None:
    content = {"live-restore": True, "log-driver": "json-file", "log-opts": {"max-file": "3"}, "registry-mirrors": []}
    text = json.dumps(content, indent=4, sort_keys=True)
    assert former_releases(text, content)
    assert not former_releases(json.dumps(content), content)
    assert not former_releases(json.dumps({"live-restore": True}, indent=4), {"live-restore": True})
    done = planned(Found(text=text), options={"log-driver": "local"})
    assert done.problems == []
    assert done.merged.result == {"log-driver": "local"}


# What is refused.


def test_fresh_host_and_own_host_have_no_problem() -> None:
    assert planned(Found()).problems == []
    own = Found(packages=INSTALLED, engine=True, unit=True, text=json.dumps(OURS), record=record(OURS))
    done = planned(own)
    assert (done.problems, done.restarts, done.configure, done.conflicting) == ([], [], False, [])


@pytest.mark.parametrize(("text", "words"), [('{"a": }', "is not JSON"), ("[1]", "is JSON, but no object")])
def test_unreadable_configuration_is_refused_and_replaced_when_said(text: str, words: str) -> None:
    assert words in planned(Found(text=text)).problems[0]
    assert planned(Found(text=text), adopt=True).problems == []


@pytest.mark.parametrize("adopt", [False, True])
def test_containers_are_never_put_out_of_sight(adopt: bool) -> None:
    options = {"data-root": "/srv/docker"}
    assert "would find none of its containers" in planned(Found(stored=True), options=options, adopt=adopt).problems[0]
    assert planned(Found(stored=False), options=options, adopt=adopt).problems == []
    # Nor by taking a key back.
    found = Found(stored=True, text=json.dumps(options), record=record(options))
    assert "from /srv/docker to its default" in planned(found, options={}, adopt=adopt).problems[0]
    # Whoever wrote the other one, and without a promise that adopting would do it.
    theirs = Found(stored=True, text='{"data-root": "/srv/docker"}')
    (problem,) = planned(theirs, options={"data-root": "/var/lib/docker"}, adopt=adopt).problems
    assert "would find none of its containers" in problem
    # The default by its name is the default.
    assert planned(Found(stored=True), options={"data-root": "/var/lib/docker"}).problems == []


DISTRIBUTION = {"docker.io": ("26.1.5", False), "containerd": ("1.7", False)}


def test_engine_with_containers_is_replaced_only_when_said() -> None:
    found = Found(packages=DISTRIBUTION, engine=True, containers=["web (nginx:1)", "db (pg:2)"])
    assert planned(found).problems == [
        "Somebody else's engine is here (docker.io 26.1.5, containerd 1.7), with 2 containers (web (nginx:1), "
        "db (pg:2)) on it, which stop meanwhile and are started again. docker_adopt: true replaces it by docker-ce."
    ]
    assert planned(found, adopt=True).problems == []
    assert planned(Found(packages=DISTRIBUTION, engine=True)).problems == []
    assert planned(Found(packages=DISTRIBUTION, engine=True)).conflicting == ["docker.io", "containerd"]


def test_every_package_that_is_removed_is_known_to_bring_an_engine_or_not() -> None:
    defaults = yaml.safe_load((Path(__file__).parents[2] / "roles" / "docker" / "defaults" / "main.yml").read_text())
    assert set(defaults["docker_conflicting_packages"]) - _WITHOUT_ENGINE == {"docker.io"}


def test_client_alone_stops_nobodys_containers() -> None:
    assert planned(Found(packages={"docker-buildx": ("0.13", False)}, shims=3)).problems == []


def test_containers_of_others_count_too() -> None:
    assert "3 containers of containerd's" in planned(Found(packages=DISTRIBUTION, shims=3)).problems[0]
    podman = Found(packages={"podman-docker": ("5", False)}, pods=["web (nginx:1)"])
    assert "of Podman's, which stay" in planned(podman).problems[0]


@pytest.mark.parametrize("packages", [{}, {"docker-buildx": ("0.13", False), "containerd": ("1.7", False)}])
@pytest.mark.parametrize("adopt", [False, True])
def test_engine_of_no_package_is_refused(adopt: bool, packages: dict[str, tuple[str, bool]]) -> None:
    found = Found(packages=packages, engine=True, containers=["web (nginx:1)"])
    assert "snap remove docker" in planned(found, adopt=adopt).problems[0]


def test_engine_of_others_goes_neither_back_nor_on_unasked() -> None:
    newer = Found(packages={"docker-ce": ("5:30.0.0-1", False)}, engine=True, unit=True)
    assert "goes back" in planned(newer, newer=True).problems[0]
    assert planned(newer, newer=True, adopt=True).problems == []
    older = Found(packages={"docker-ce": ("5:28.0.0-1", False)}, engine=True, unit=True, containers=["web (x)"])
    assert "restarts the engine" in planned(older).problems[0]
    # Nothing runs there that a restart could stop.
    older.containers = []
    assert planned(older).problems == []


def test_our_engine_goes_back_where_we_brought_it() -> None:
    found = Found(packages={"docker-ce": ("5:30.0.0-1", False)}, engine=True, unit=True)
    found.record = record({}, "5:30.0.0-1")
    assert planned(found, newer=True).problems == []
    # Somebody else brought the newer one.
    found.record = record({}, "5:29.8.2-1")
    assert "was not installed by this project" in planned(found, newer=True).problems[0]


def test_held_package_is_named() -> None:
    found = Found(packages={**INSTALLED, "containerd.io": ("1.7.24-1", True)}, record=record({}))
    assert planned(found).problems == [
        "containerd.io is held at 1.7.24-1 (apt-mark showhold), and 2.3.6-* is to be installed: apt-mark unhold "
        "containerd.io, or set docker_version and its like to what is there."
    ]
    found.packages["containerd.io"] = ("2.3.6-1", True)
    assert planned(found).problems == []


def test_swarm_and_flags_are_named() -> None:
    own: dict[str, Any] = {"packages": INSTALLED, "engine": True, "record": record({})}
    assert "part of a swarm" in planned(Found(**own, swarm=True)).problems[0]
    line = "/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock --log-opt max-size=1g"
    assert "starts the engine with --log-opt max-size=1g" in planned(Found(**own, command_line=line)).problems[0]


def test_flags_are_read() -> None:
    line = "/usr/bin/dockerd -H fd:// --debug --registry-mirror=http://x --log-driver journald"
    assert list(flags(line)) == ["hosts", "debug", "registry-mirrors", "log-driver"]


# What restarts the engine.


def test_reasons_to_restart() -> None:
    own = Found(packages=dict(INSTALLED), engine=True, unit=True, text=json.dumps(OURS), record=record(OURS))
    own.packages["docker-buildx-plugin"] = ("0.1-1", False)
    assert planned(own).restarts == []
    own.packages["containerd.io"] = ("1.7.24-1", False)
    assert planned(own).restarts == ["containerd.io becomes 2.3.6-*"]
    own.unread = True
    assert planned(own).restarts[1:] == ["/etc/docker/daemon.json was not read yet"]
    assert planned(own, options={}).restarts[1:] == ["/etc/docker/daemon.json changes"]
    own.unit = False
    assert planned(own).restarts == []


def test_restart_needs_live_restore_where_containers_run() -> None:
    assert Found(packages=INSTALLED, containers=["a"]).unguarded
    assert not Found(packages=INSTALLED, containers=["a"], live_restore=True).unguarded
    assert not Found(packages=DISTRIBUTION, containers=["a"]).unguarded


@pytest.mark.parametrize(
    ("answer", "about"),
    [
        ('HTTP/1.1 200 OK\r\n\r\n{"Swarm": {"LocalNodeState": "active"}}', {"Swarm": {"LocalNodeState": "active"}}),
        ("HTTP/1.1 500 Internal Server Error\r\n\r\n{}", {}),
        ("HTTP/1.1 200 OK\r\n\r\nnot what it says of itself", {}),
        ("", {}),
    ],
)
def test_engine_that_does_not_say_what_it_is_is_none_of_a_swarm(
    answer: str, about: dict[str, Any], tmp_path: Path
) -> None:
    path = str(tmp_path / "sock")
    assert Host.about(path) == {}
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(path)
        listener.listen()
        asked = pool.submit(Host.about, path)
        with listener.accept()[0] as connection:
            assert connection.recv(9999).startswith(b"GET /info HTTP/1.1\r\n")
            connection.sendall(answer.encode())
        assert asked.result(timeout=60) == about


def test_packages_are_read() -> None:
    text = "docker-ce\t5:1-1\thold\tinstalled\ndocker.io\t26\tdeinstall\tconfig-files\nrunc\t\tunknown\tnot-installed\n"
    assert parse_packages(text) == {"docker-ce": ("5:1-1", True)}


def test_passwords_of_proxies_are_not_shown() -> None:
    assert "secret" not in shown({"proxies": {"http-proxy": "http://me:secret@proxy:3128"}})


def test_last_words_of_an_engine_are_its_own() -> None:
    journal = "Starting docker.service\nunknown flag: --x\nSee help\ndocker.service: Failed with result 'exit-code'.\n"
    journal += "docker.service: Scheduled restart job, restart counter is at 1.\nlevel=info msg=x\n"
    assert last_words(journal * 3) == [
        "unknown flag: --x",
        "See help",
        "docker.service: Failed with result 'exit-code'.",
    ]


def test_records_add_up() -> None:
    assert union({"a": {"b": 1}, "c": [1]}, {"a": {"d": 2}, "c": [2], "e": 3}) == {
        "a": {"b": 1, "d": 2},
        "c": [1, 2],
        "e": 3,
    }


# On a host.


class FakeHost(Host):
    """A host whose engine accepts every configuration but one with ``bad``."""

    there = Found()
    # What `docker ps` says: name, label, image.
    listed = ""

    def found(self) -> Found:
        """Return what the test set, with the files as they are."""
        files = {"text": self.path, "record": self.folder / "engine.json"}
        texts = {name: path.read_text() if path.exists() else None for name, path in files.items()}
        self.there.text = texts["text"]
        self.there.record = json.loads(texts["record"]) if texts["record"] else None
        return self.there

    def newer(self, found: Found) -> bool:
        """Say no."""
        return found is None

    @staticmethod
    def run(*command: str, seconds: float = 1) -> tuple[int, str]:
        """Check a configuration."""
        if command[0] == "docker":
            said = {"ps": FakeHost.listed, "volume": "a\nb\n"}
            return 0, said.get(command[1], "")
        assert command[0] == "dockerd", seconds
        return (1, "unknown option") if "bad" in Path(command[3]).read_text() else (0, "")


def configure(tmp_path: Path, options: dict[str, Any], check_mode: bool = False, adopt: bool = False) -> Any:
    """Run the module."""
    parameters = {"state": "configured", "options": options, "packages": [], "conflicting": [], "adopt": adopt}
    parameters |= {"path": str(tmp_path / "daemon.json"), "folder": str(tmp_path / "notes")}
    return run(parameters, check_mode, FakeHost(parameters))


def test_file_is_written_with_a_copy_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"data-root": "/srv"}')
    path.chmod(0o600)
    assert configure(tmp_path, OURS, check_mode=True)["changed"] is True
    assert [each.name for each in tmp_path.iterdir()] == ["daemon.json"]
    result = configure(tmp_path, OURS)
    assert result["changed"] is True
    assert '"live-restore": true' in result["diff"]["after"]
    assert json.loads(path.read_text()) == {"data-root": "/srv", **OURS}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "daemon.json.before-evenkeel").read_text() == '{"data-root": "/srv"}'
    before = path.stat()
    assert configure(tmp_path, OURS)["changed"] is False
    assert path.stat() == before
    assert configure(tmp_path, {})["changed"] is True
    assert json.loads(path.read_text()) == {"data-root": "/srv"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["daemon.json", "daemon.json.before-evenkeel", "notes"]


def test_refused_configuration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    with pytest.raises(EngineError, match="so nothing was changed: unknown option"):
        configure(tmp_path, {"bad": True})
    assert path.read_text() == "{}"
    assert [each.name for each in tmp_path.iterdir()] == ["daemon.json"]


def test_broken_file_is_kept_when_adopted(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text("{oh")
    configure(tmp_path, {"debug": True}, adopt=True)
    assert (tmp_path / "daemon.json.before-evenkeel").read_text() == "{oh"
    assert json.loads((tmp_path / "daemon.json").read_text()) == {"debug": True}


def test_key_taken_back_by_a_killed_run_goes_with_the_next(tmp_path: Path) -> None:
    configure(tmp_path, {"debug": True})
    # Killed between the record and the file.
    note = tmp_path / "notes" / "engine.json"
    note.write_text(json.dumps({"owned": union({"debug": True}, {"log-driver": "local"})}))
    configure(tmp_path, {"log-driver": "local"})
    assert json.loads((tmp_path / "daemon.json").read_text()) == {"log-driver": "local"}


def test_file_behind_a_link_is_written_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "d.json").write_text('{"debug": true}')
    (tmp_path / "daemon.json").symlink_to("real/d.json")
    configure(tmp_path, OURS)
    assert (tmp_path / "daemon.json").is_symlink()
    assert json.loads((tmp_path / "real" / "d.json").read_text())["live-restore"] is True


# Taking it away.


def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_mode: bool = False, listed: str = "") -> Any:
    """Run the module with an engine that has these containers."""
    monkeypatch.setattr(FakeHost, "there", Found(engine=True, stored=True))
    monkeypatch.setattr(FakeHost, "listed", listed)
    parameters = {"state": "released", "options": {}, "packages": [], "conflicting": [], "adopt": False}
    parameters |= {"path": str(tmp_path / "daemon.json"), "folder": str(tmp_path / "evenkeel" / "docker")}
    return run(parameters, check_mode, FakeHost(parameters))


def ours_there(tmp_path: Path, options: dict[str, Any]) -> None:
    """Write daemon.json as the role does."""
    parameters = {"state": "configured", "options": options, "packages": [], "conflicting": [], "adopt": False}
    parameters |= {"path": str(tmp_path / "daemon.json"), "folder": str(tmp_path / "evenkeel" / "docker")}
    run(parameters, False, FakeHost(parameters))


def test_our_settings_go_where_nobody_else_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "daemon.json"
    ours_there(tmp_path, OURS)
    # Ours go before it does; in check mode they are still there.
    checked = release(tmp_path, monkeypatch, check_mode=True, listed="backend_shop\tshop\tshop:1\n")
    assert (checked["changed"], path.exists()) == (True, True)
    result = release(tmp_path, monkeypatch)
    assert (result["changed"], result["left"]["engine"], result["left"]["volumes"]) == (True, [], ["a", "b"])
    assert list(tmp_path.iterdir()) == []
    assert release(tmp_path, monkeypatch)["changed"] is False


def test_settings_of_others_stay_in_daemon_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"debug": true}')
    ours_there(tmp_path, OURS)
    release(tmp_path, monkeypatch)
    assert json.loads(path.read_text()) == {"debug": True}
    path.write_text('{"live-restore": true}')
    # Without a record, nothing there is ours.
    assert release(tmp_path, monkeypatch)["changed"] is False


def test_settings_stay_where_somebody_else_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours_there(tmp_path, OURS)
    result = release(tmp_path, monkeypatch, listed="web\t\tnginx:1\n")
    assert (result["changed"], result["removed"]) == (False, [])
    assert "stays: 1 container (web) of somebody else's" in result["left"]["engine"][0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["daemon.json", "evenkeel"]


@pytest.mark.parametrize(
    ("text", "engine", "words"),
    [
        ("{", True, "is no JSON object"),
        ("{}", False, "the engine does not run"),
        ('{"data-root": "/srv"}', True, "without its data-root"),
        ("{}", True, ""),
    ],
)
def test_reasons_to_leave_daemon_json(text: str, engine: bool, words: str) -> None:
    found = Found(text=text, record=record({"data-root": "/srv"}))
    said = releasing(planned(found, options={}), [], engine, True, "/etc/docker/daemon.json")
    assert (words in said) if words else said == ""
