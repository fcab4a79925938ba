"""What is somebody else's on a host: files, folders, containers and ports."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreign import (
    Container,
    Engine,
    Find,
    ForeignError,
    Holder,
    Host,
    Listener,
    adopt,
    overlap,
    parse_cgroup,
    parse_conffiles,
    parse_containers,
    parse_listeners,
    parse_sockets,
    refusal,
    search,
)

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
MARKS = ["written by evenkeel"]


class FakeEngine(Engine):
    """An engine with these containers; notes what it is told to put aside."""

    def __init__(self, about: dict[str, dict[str, Any]] | None = None) -> None:
        """Take what is known of each container by its id."""
        super().__init__("/nowhere")
        self.about = about or {}
        self.done: list[tuple[str, str]] = []

    def ask(self, method: str, path: str, *_: Any, **__: Any) -> Any:
        """Return what was given for the container."""
        assert method == "GET"
        return self.about[path.split("/")[2]]

    def put_aside(self, container: Container, name: str) -> None:
        """Note it."""
        self.done.append((container.name, name))


class FakeHost(Host):
    """A host that says what the test gives."""

    def __init__(
        self,
        listeners: Iterable[Listener] = (),
        holders: dict[str, list[Holder]] | None = None,
        containers: Iterable[Container] = (),
        engine: Engine | None = None,
        bindable: bool = False,
    ) -> None:
        """Take what it will say."""
        super().__init__(engine=engine or FakeEngine())
        self._listening, self._held = list(listeners), holders or {}
        self._there, self._bindable = list(containers), bindable

    def listeners(self) -> list[Listener]:
        """Return what was given."""
        return self._listening

    def holders(self, inode: str) -> list[Holder]:
        """Return what was given for the socket."""
        return self._held.get(inode, [])

    def containers(self) -> list[Container]:
        """Return what was given."""
        return self._there

    def can_bind(self, *_: Any) -> bool:
        """Return what was given."""
        return self._bindable

    def has_ipv6(self) -> bool:
        """Return that it has."""
        return True

    def sockets(self) -> dict[str, list[tuple[str, int]]]:
        """Return two units that systemd listens for."""
        return {"cockpit.socket": [("::", 9090)], "haproxy.socket": [("10.0.0.1", 80)]}

    def package(self, name: str) -> tuple[str, bool]:
        """Return what the test set for the package."""
        return PACKAGES.get(name, ("", False))

    def conffiles(self, package: str) -> dict[str, str]:
        """Return the package's files as the test set them."""
        return CONFFILES[package]


CONFFILES: dict[str, dict[str, str]] = {}
PACKAGES = {"grafana": ("12.4.0", True), "haproxy": ("", True), "nginx": ("1.26", False)}


def parameters(**given: Any) -> dict[str, Any]:
    """Return the module's parameters as Ansible fills them up."""
    full: dict[str, Any] = {"role": "web", "files": [], "folders": [], "containers": [], "ports": []}
    empty: dict[str, dict[str, Any]] = {
        "files": {"marks": MARKS, "package": "", "samples": []},
        "uses": {"marks": [], "adopting": "goes on with it", "copy": True},
        "folders": {"marks": MARKS},
        "containers": {"marks": MARKS},
        "packages": {"setting": ""},
        "ports": {"address": "10.0.0.1", "port": 80, "units": [], "containers": [], "setting": "web_port"},
    }
    for kind, items in given.items():
        full[kind] = [{**empty[kind], **{key: _text(value) for key, value in item.items()}} for item in items]
    return full


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def sentences(host: Host | None = None, **given: Any) -> list[str]:
    """Return what is found."""
    return [find.sentence for find in search(parameters(**given), host or FakeHost()).found]


# Packages.


def test_held_package_is_named_where_another_version_is_wanted() -> None:
    found = search(parameters(packages=[{"name": "grafana=13.2.3", "setting": "grafana_version"}]), FakeHost()).found
    assert refusal("web", found, adopt=True).endswith(
        " Grafana is held at 12.4.0 (apt-mark showhold), and 13.2.3 is to be installed. To go on: apt-mark unhold "
        "grafana, or set grafana_version to what is there."
    )
    assert sentences(packages=[{"name": "haproxy"}]) == ["haproxy is held (apt-mark showhold), and is not installed"]


@pytest.mark.parametrize("name", ["grafana=12.4.*", "grafana", "nginx=1.27", "unknown=1"])
def test_package_that_is_as_wanted_or_not_held_is_nobodys(name: str) -> None:
    assert sentences(packages=[{"name": name}]) == []


# Files.


def test_missing_empty_and_marked_files_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "ours").write_text("# A line.\n# written by evenkeel\nx = 1\n")
    assert sentences(files=[{"path": tmp_path / name} for name in ("missing", "empty", "ours")]) == []


def test_file_without_a_mark_is_somebodys(tmp_path: Path) -> None:
    path = tmp_path / "web.cfg"
    path.write_bytes(b"listen \xff 80\n")
    assert sentences(files=[{"path": path}]) == [f"{path} was not written by this project"]


def test_unchanged_configuration_of_a_package_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "web.cfg"
    path.write_text("as it came\n")
    CONFFILES["web"] = {str(path): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}
    assert sentences(files=[{"path": path, "package": "web"}]) == []
    path.write_text("changed by hand\n")
    assert len(sentences(files=[{"path": path, "package": "web"}])) == 1


def test_unchanged_copy_of_a_sample_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("as it came\n")
    path = tmp_path / "web.ini"
    path.write_text("as it came\n")
    samples = [str(tmp_path / "missing"), str(tmp_path / "sample")]
    assert sentences(files=[{"path": path, "samples": samples}]) == []
    assert len(sentences(files=[{"path": path}])) == 1


def test_link_is_somebodys_unless_it_leads_to_our_content(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("written by evenkeel\n")
    (tmp_path / "theirs").write_text("x\n")
    for name, target in {"a": "ours", "b": "theirs", "c": "missing", "masked": "/dev/null"}.items():
        (tmp_path / name).symlink_to(target)
    found = sentences(files=[{"path": tmp_path / name} for name in ("a", "b", "c", "masked")])
    assert [sentence.split(", ")[1] for sentence in found] == [
        "a link to theirs",
        "a link to missing",
        "a link to /dev/null",
    ]


def test_adopted_file_is_kept_with_its_rights_once(tmp_path: Path) -> None:
    path, copy = tmp_path / "web.cfg", tmp_path / "web.cfg.before-evenkeel"
    path.write_text("theirs\n")
    path.chmod(0o640)
    os.utime(path, (1, 1))
    former = os.umask(0o077)
    try:
        result = search(parameters(files=[{"path": path}]), FakeHost())
        assert result.kept == [str(copy)]
        assert not copy.exists(), "a search changes nothing"
        assert adopt(result, FakeEngine()) is True
    finally:
        os.umask(former)
    assert copy.read_text() == "theirs\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert copy.stat().st_mtime == 1
    # The run was killed before the role replaced it.
    again = search(parameters(files=[{"path": path}]), FakeHost())
    assert adopt(again, FakeEngine()) is False
    # Somebody wrote another one later: the first copy stays.
    path.write_text("theirs again\n")
    adopt(search(parameters(files=[{"path": path}]), FakeHost()), FakeEngine())
    assert copy.read_text() == "theirs\n"
    assert (tmp_path / "web.cfg.before-evenkeel.1").read_text() == "theirs again\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, copy.name, f"{copy.name}.1"]


def test_adopted_link_is_kept_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "web.service").symlink_to("/dev/null")
    given = parameters(files=[{"path": tmp_path / "web.service"}])
    assert adopt(search(given, FakeHost()), FakeEngine()) is True
    assert str((tmp_path / "web.service.before-evenkeel").readlink()) == "/dev/null"
    assert adopt(search(given, FakeHost()), FakeEngine()) is False


def test_folder_in_place_of_a_file_is_never_adopted(tmp_path: Path) -> None:
    found = search(parameters(files=[{"path": tmp_path}]), FakeHost()).found
    assert "is a folder" in refusal("web", found, adopt=True)


# Folders.


def test_folder_names_what_is_not_ours_and_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    (folder / "team").mkdir(parents=True)
    (folder / "ours.json").write_text('{"tags": ["written by evenkeel"]}')
    for name in ("1.json", "2.json", "3.json", "4.json", "5.json", "team/6.json"):
        (folder / name).write_text(f'{{"uid": "{name}"}}')
    assert sentences(folders=[{"path": tmp_path / "missing"}]) == []
    given = parameters(folders=[{"path": folder}])
    result = search(given, FakeHost())
    names = "1.json, 2.json, 3.json, 4.json, 5.json and 1 more"
    assert [each.sentence for each in result.found] == [
        f"{folder} holds files that this project did not write: {names}"
    ]
    assert adopt(result, FakeEngine()) is True
    assert (tmp_path / "boards.before-evenkeel/team/6.json").read_text() == '{"uid": "team/6.json"}'
    assert not (tmp_path / "boards.before-evenkeel/ours.json").exists()
    assert adopt(search(given, FakeHost()), FakeEngine()) is False
    (folder / "1.json").write_text("{ }")
    assert adopt(search(given, FakeHost()), FakeEngine()) is True
    assert (tmp_path / "boards.before-evenkeel/1.json").read_text() == '{"uid": "1.json"}'
    assert (tmp_path / "boards.before-evenkeel/1.json.before-evenkeel").read_text() == "{ }"


# Containers.

THEIRS = Container("gateway", "a" * 64, "someone/gateway:2", "running", (("10.0.0.1", 80),))


def test_container_of_the_same_name_is_put_aside() -> None:
    engine = FakeEngine({THEIRS.identity: {"Config": {"Labels": {}}}})
    taken = Container("gateway.before-evenkeel", "b" * 64, "x", "exited", ())
    host = FakeHost(containers=[THEIRS, taken], engine=engine)
    # Its port is free once it is stopped.
    result = search(parameters(containers=[{"name": "gateway"}], ports=[{}]), host)
    assert [each.sentence for each in result.found] == [
        "the container gateway (image someone/gateway:2, running) was not made by this project"
    ]
    assert refusal("web", result.found, adopt=True) == ""
    assert adopt(result, engine) is True
    assert engine.done == [("gateway", "gateway.before-evenkeel.1")]


def test_our_container_is_known_by_its_mark() -> None:
    engine = FakeEngine({THEIRS.identity: {"Config": {"Labels": {"about": "written by evenkeel"}}}})
    assert sentences(FakeHost(containers=[THEIRS], engine=engine), containers=[{"name": "gateway"}]) == []


# Ports.


def listening(address: str, *holders: Holder, port: int = 80, **more: Any) -> FakeHost:
    """Return a host with one listening socket."""
    return FakeHost([Listener(address, port, "7")], {"7": list(holders)}, **more)


NGINX = Holder(12, "nginx", "nginx.service", "")


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "::"])
def test_port_of_another_program_is_taken(address: str) -> None:
    found = sentences(listening(address, NGINX), ports=[{"units": ["web.service"]}])
    assert found == ["port 80 of 10.0.0.1 is taken by nginx (process 12 of nginx.service)"]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (listening("10.0.0.2", NGINX), {}),
        (listening("10.0.0.1", NGINX, port=81), {}),
        (listening("10.0.0.1", NGINX), {"units": ["nginx.service"]}),
        # Only IPv6 is bound, which the kernel tells by letting IPv4 have the port.
        (listening("::", NGINX, bindable=True), {}),
        # systemd holds the socket of a unit of ours, alone or with the service.
        (listening("10.0.0.1", Holder(1, "systemd", "init.scope", "")), {"units": ["haproxy.socket"]}),
        (listening("10.0.0.1", Holder(1, "systemd", "", ""), NGINX), {"units": ["nginx.service"]}),
    ],
)
def test_port_is_free_or_ours(host: Host, port: dict[str, Any]) -> None:
    assert sentences(host, ports=[port]) == []


def test_wildcard_of_ours_meets_every_address() -> None:
    assert len(sentences(listening("127.0.0.1", NGINX), ports=[{"address": "0.0.0.0"}])) == 1
    assert len(sentences(listening("127.0.0.1", NGINX), ports=[{"address": "name.example"}])) == 1


def test_door_of_ipv6_alone_meets_ipv6_alone() -> None:
    doors = [{"address": "0.0.0.0", "port": 80}, {"address": "::", "port": 80, "without_ipv6": "set x"}]
    # Who has both is told of once.
    assert len(sentences(listening("::", Holder(7, "nginx", "nginx.service", "")), ports=doors)) == 1
    four = sentences(listening("0.0.0.0", Holder(7, "nginx", "nginx.service", "")), ports=doors[1:])
    assert four == []
    (six,) = sentences(listening("2001:db8::1", Holder(7, "nginx", "nginx.service", "")), ports=doors[1:])
    assert "port 80 of :: is taken" in six


def test_kernel_without_ipv6_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHost, "has_ipv6", lambda _: False)
    doors = parameters(ports=[{"address": "::", "port": 80, "without_ipv6": "set x to 0.0.0.0"}])
    (found,) = search(doors, FakeHost()).found
    assert found.sentence == "port 80 is to be opened for IPv6, which this kernel has not"
    assert found.otherwise == "set x to 0.0.0.0"


def test_socket_that_systemd_holds_names_its_unit() -> None:
    host = listening("::", Holder(1, "systemd", "init.scope", ""), port=9090)
    assert sentences(host, ports=[{"port": 9090}]) == ["port 9090 of 10.0.0.1 is taken by systemd for cockpit.socket"]


def test_listener_without_a_process_is_told() -> None:
    assert sentences(listening("10.0.0.1"), ports=[{}]) == [
        "port 80 of 10.0.0.1 is taken by a program that does not show itself"
    ]


PROXY = Holder(40, "docker-proxy", "docker.service", "")


@pytest.mark.parametrize(
    "host",
    [
        listening("10.0.0.1", PROXY, containers=[THEIRS]),
        # Without a userland proxy nothing listens.
        FakeHost(containers=[THEIRS]),
        # In the host's network the process itself listens.
        listening("10.0.0.1", Holder(41, "gw", "docker-a.scope", "a" * 64), containers=[THEIRS]),
    ],
)
def test_port_of_a_container_names_it(host: Host) -> None:
    sentence = "port 80 of 10.0.0.1 is taken by the container gateway (image someone/gateway:2, running)"
    assert sentences(host, ports=[{"units": ["web.service"], "containers": ["web"]}]) == [sentence]
    assert sentences(host, ports=[{"containers": ["gateway"]}]) == []


def test_our_container_hides_no_other_program() -> None:
    listeners = [Listener("10.0.0.1", 80, "1"), Listener("127.0.0.1", 80, "2")]
    host = FakeHost(listeners, {"1": [PROXY], "2": [NGINX]}, [THEIRS])
    found = sentences(host, ports=[{"address": "0.0.0.0", "containers": ["gateway"]}])
    assert found == ["port 80 of 0.0.0.0 is taken by nginx (process 12 of nginx.service)"]


# What is said.


def closing(*known: int) -> dict[str, Any]:
    """Return the parameters of a role that would close all ports but these."""
    listeners = {"known": list(known), "adopting": "closes it", "setting": "firewall_open_ports"}
    return {**parameters(), "role": "firewall", "listeners": listeners}


def test_ports_that_nobody_named_are_told_with_who_holds_them() -> None:
    listeners = [Listener("0.0.0.0", 3306, "1"), Listener("::", 3306, "2"), Listener("10.0.0.1", 22, "3")]
    listeners += [Listener("127.0.0.1", 631, "4"), Listener("::1", 631, "5"), Listener("10.0.0.1", 8080, "6")]
    database = Holder(7, "mysqld", "mysql.service", "")
    published = replace(THEIRS, ports=(("10.0.0.1", 8080), ("127.0.0.1", 8081)))
    holders = {"1": [database], "2": [database], "3": [NGINX], "6": [PROXY]}
    found = search(closing(22), FakeHost(listeners, holders, [published])).found
    assert [find.sentence for find in found] == [
        "ports answer here that this project knows nothing of: 3306, held by mysqld (process 7 of mysql.service); "
        f"8080, held by the {published.words}"
    ]
    assert found[0].otherwise == "leave them open with firewall_open_ports: [3306, 8080]"
    assert "firewall_adopt: true closes it" in refusal("firewall", found, adopt=False)
    assert refusal("firewall", found, adopt=True) == ""


def test_nothing_is_asked_of_ports_that_are_known_or_where_no_setting_would_open_them() -> None:
    host = FakeHost([Listener("0.0.0.0", 3306, "1")], {"1": [NGINX]})
    assert search(closing(3306), host).found == []
    assert search({**closing(), "listeners": {**closing()["listeners"], "setting": ""}}, host).found == []


def test_refusal_says_everything_at_once() -> None:
    found = [
        Find("/etc/web.cfg was not written by this project", "replaces it and keeps it as X", "move it away"),
        Find("port 80 of 10.0.0.1 is taken by nginx", "", "choose another one with web_port"),
    ]
    assert refusal("web", found, adopt=False) == (
        "Role web changed nothing here, since somebody else set up what it would take. "
        "/etc/web.cfg was not written by this project. To go on: web_adopt: true replaces it and keeps it as X; or "
        "move it away. Port 80 of 10.0.0.1 is taken by nginx. To go on: choose another one with web_port."
    )
    # No role stops a program that is not its own.
    assert "/etc/web.cfg" not in refusal("web", found, adopt=True)
    assert "Port 80" in refusal("web", found, adopt=True)
    assert refusal("web", found[:1], adopt=True) == ""


# What the host says.


def test_listeners_are_read_from_the_kernels_tables() -> None:
    tcp = (
        "   0: 0100000A:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n"
        "   1: 0100000A:0050 0200000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n"
    )
    assert parse_listeners(HEADING + tcp) == [Listener("10.0.0.1", 80, "4711")]
    tcp6 = (
        "   0: 00000000000000000000000000000000:2382 0:0 0A 0:0 0:0 0 0 0 1 1 0\n"
        "   1: 0000000000000000FFFF00000100000A:0050 0:0 0A 0:0 0:0 0 0 0 2 1 0\n"
        "   2: B80D0120000000000000000001000000:0050 0:0 0A 0:0 0:0 0 0 0 3 1 0\n"
    )
    assert parse_listeners(HEADING + tcp6) == [
        Listener("::", 9090, "1"),
        Listener("10.0.0.1", 80, "2"),
        Listener("2001:db8::1", 80, "3"),
    ]


def test_addresses_overlap() -> None:
    assert overlap("10.0.0.1", "10.0.0.1")
    assert overlap("10.0.0.1", "::")
    assert overlap("0.0.0.0", "10.0.0.1")
    assert overlap("[::1]", "0:0:0:0:0:0:0:1")
    assert not overlap("10.0.0.1", "10.0.0.2")
    assert not overlap("10.0.0.1", "::1")


@pytest.mark.parametrize(
    ("text", "unit", "container"),
    [
        ("0::/system.slice/haproxy.service\n", "haproxy.service", ""),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n", "web.service", ""),
        (f"0::/system.slice/docker-{'a' * 64}.scope\n", f"docker-{'a' * 64}.scope", "a" * 64),
        (f"0::/docker/{'a' * 64}/sub\n", "", "a" * 64),
        ("12:cpu:/x\n1:name=systemd:/system.slice/haproxy.service\n", "haproxy.service", ""),
        ("1:name=systemd:/\n0::/system.slice/ssh.service\n", "ssh.service", ""),
        ("0::/\n", "", ""),
    ],
)
def test_process_belongs_to_a_unit_or_container(text: str, unit: str, container: str) -> None:
    assert parse_cgroup(text) == (unit, container)


def test_conffiles_are_read() -> None:
    text = " /etc/web/web.cfg 1f0a\n /etc/web/old.cfg 2b0b obsolete\n"
    assert parse_conffiles(text) == {"/etc/web/web.cfg": "1f0a", "/etc/web/old.cfg": "2b0b"}
    assert parse_conffiles("") == {}


def test_systemds_sockets_are_read() -> None:
    text = (
        "Id=a.socket\nListen=/run/a (Stream)\n\nListen=[::]:9090 (Stream)\nListen=10.0.0.1:80 (Stream)\nId=b.socket\n"
    )
    assert parse_sockets(text) == {"b.socket": [("::", 9090), ("10.0.0.1", 80)]}


def test_containers_are_read() -> None:
    ports = [
        {"IP": "10.0.0.1", "PrivatePort": 9091, "PublicPort": 80, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
    ]
    answer = [{"Id": "a" * 64, "Names": ["/gateway"], "Image": "someone/gateway:2", "State": "running", "Ports": ports}]
    assert parse_containers(answer) == [THEIRS]


def test_this_machines_own_listener_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        host = Host()
        mine = [each for each in host.listeners() if each.port == port]
        assert [each.address for each in mine] == ["127.0.0.1"]
        assert os.getpid() in [each.pid for each in host.holders(mine[0].inode)]
        assert host.can_bind("127.0.0.1", port) is False
    assert host.can_bind("127.0.0.1", port) is True


def test_engine_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match=r"^Docker's engine does not answer"):
        Engine(str(tmp_path / "missing.sock")).containers()


# What does not tell whose it is.


def test_database_is_ours_where_our_configuration_is(tmp_path: Path) -> None:
    database, settings = tmp_path / "web.db", tmp_path / "web.ini"
    database.write_bytes(b"\x00\xff")
    given = {"paths": [str(database)], "ours": [settings, tmp_path / "note"], "marks": MARKS}
    assert sentences(uses=[given]) == [f"{database} was not made by this project"]
    settings.write_text("x = 1\n")
    assert len(sentences(uses=[given])) == 1
    settings.write_text("# written by evenkeel\n")
    assert sentences(uses=[given]) == []
    settings.unlink()
    (tmp_path / "note").write_text("written by evenkeel: it stays\n")
    assert sentences(uses=[given]) == []
    assert sentences(uses=[given | {"ours": [tmp_path / "none"], "paths": [str(tmp_path / "missing")]}]) == []


def test_adopted_database_is_copied_and_a_folder_is_not(tmp_path: Path) -> None:
    database, folder = tmp_path / "web.db", tmp_path / "data"
    database.write_bytes(b"\x00")
    folder.mkdir()
    given = parameters(uses=[{"paths": [str(database), str(folder)], "ours": [tmp_path / "none"]}])
    # An empty folder is nobody's.
    assert [find.adopting for find in search(given, FakeHost()).found] == [
        f"goes on with it and keeps a copy as {database}.before-evenkeel"
    ]
    (folder / "block").write_text("")
    found = search(given, FakeHost())
    assert [find.adopting for find in found.found][1] == "goes on with it"
    assert adopt(found, FakeEngine()) is True
    assert (tmp_path / "web.db.before-evenkeel").read_bytes() == b"\x00"
    assert database.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "web.db", "web.db.before-evenkeel"]
