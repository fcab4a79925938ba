"""The lab's own decisions: hosts, ports, inventory, versions."""

from __future__ import annotations

import fcntl
import functools
import http.server
import ipaddress
import os
import re
import shlex
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from evenkeel.errors import EvenkeelError
from evenkeel.lab import __main__ as lab_main
from evenkeel.lab import engine, hosts, inventory, mirror, settings, system
from evenkeel.lab.__main__ import main
from evenkeel.lab.kinds import KINDS, containers
from evenkeel.lab.settings import PROJECT, Host, Lab, host_list, parse_hosts, parse_subnet, site_names

SUBNET = ipaddress.IPv4Network("10.213.77.0/24")
PACKAGES = """Package: containerd.io
Version: 1.7.24-1~debian.13~trixie

Package: docker-ce
Architecture: amd64
Version: 5:26.1.5-1~debian.13~trixie
Depends: containerd.io
"""


def test_site_has_a_balancer_and_numbered_backends() -> None:
    assert site_names(2) == {"balancer": "balancers", "backend-1": "backends", "backend-2": "backends"}


@pytest.mark.parametrize("backends", [0, -1, 201])
def test_number_of_backends_is_bounded(backends: int) -> None:
    with pytest.raises(EvenkeelError, match=f"BACKENDS is {backends}: choose a number from 1 to 200"):
        site_names(backends)


def test_hosts_get_addresses_and_ports_by_their_place() -> None:
    first, second = host_list(
        {"balancer": "balancers", "backend-1": "backends"}, SUBNET, 2200, {"balancer": {8080: 80}}
    )
    assert first == Host("balancer", "balancers", "10.213.77.10", 2200, {8080: 80})
    assert second == Host("backend-1", "backends", "10.213.77.11", 2201, {})


@pytest.mark.parametrize(("text", "wanted"), [("10.0.0", "is no IPv4 network"), ("10.0.0.0/25", "is too small")])
def test_bad_subnet_is_one_sentence(text: str, wanted: str) -> None:
    with pytest.raises(EvenkeelError, match=wanted):
        parse_subnet(text)


def test_host_pairs_are_parsed() -> None:
    assert parse_hosts("") == {}
    assert parse_hosts("a:one,b:two") == {"a": "one", "b": "two"}
    assert parse_hosts("a:one:name") == {"a": "one:name"}
    with pytest.raises(EvenkeelError, match="write name:group pairs"):
        parse_hosts("a")
    with pytest.raises(EvenkeelError, match="one of ipv4, ipv6, name"):
        parse_hosts("a:one:ipx")


def test_hosts_are_reached_by_what_was_asked_for() -> None:
    names = {"balancer": "balancers", "backend-1": "backends:ipv6", "backend-2": "backends:name"}
    lab = Lab("x", SUBNET, host_list(names, SUBNET, 2200, {}))
    groups = yaml.safe_load(inventory.render(lab, {}))["all"]["children"]
    assert groups["balancers"]["hosts"]["balancer"]["service_address"] == "10.213.77.10"
    # It is known by the address, too, from which it asks the one that is reached by IPv6.
    assert groups["balancers"]["hosts"]["balancer"]["firewall_addresses"] == ["fd00:ad5:4d00::a"]
    assert groups["backends"]["hosts"]["backend-1"]["service_address"] == "fd00:ad5:4d00::b"
    assert groups["backends"]["hosts"]["backend-2"]["service_address"] == "evenkeel-x-backend-2"
    without = Lab("x", SUBNET, host_list(names, SUBNET, 2200, {}, ipv6=False))
    assert "fd00" not in inventory.render(without, {})


def test_inventory_lists_hosts_by_group_with_the_way_to_the_mirror() -> None:
    lab = Lab("lab", SUBNET, host_list(site_names(1), SUBNET, 2200, {}))
    rendered = yaml.safe_load(inventory.render(lab, {"docker_version": "26.1.5"}))["all"]
    assert rendered["vars"]["chaos_lab"] is True
    assert rendered["vars"]["docker_version"] == "26.1.5"
    # Longer waits than on hosts of their own, and a scenario's word comes before them.
    assert rendered["vars"]["front_wait"] == 120
    assert yaml.safe_load(inventory.render(lab, {"front_wait": 5}))["all"]["vars"]["front_wait"] == 5
    assert rendered["vars"]["ansible_user"] == "ops"
    assert "StrictHostKeyChecking=yes" in rendered["vars"]["ansible_ssh_common_args"]
    assert rendered["children"]["backends"]["hosts"]["backend-1"] == {
        "ansible_connection": "ssh",
        "ansible_port": 2201,
        "service_address": "10.213.77.11",
    }


def test_package_version_leaves_epoch_and_revision_out() -> None:
    assert mirror.package_version(PACKAGES, "docker-ce") == "26.1.5"
    assert mirror.package_version(PACKAGES, "containerd.io") == "1.7.24"
    with pytest.raises(EvenkeelError, match="has no package docker"):
        mirror.package_version(PACKAGES, "docker")


def test_release_of_prometheus_is_read_from_what_the_mirror_serves() -> None:
    listing = '<a href="../">../</a>\n<a href="v2.53.3/">v2.53.3/</a>    23-Nov-2026 07:00    -\n'
    assert mirror.release_version(listing) == "2.53.3"
    with pytest.raises(EvenkeelError, match="no release of Prometheus"):
        mirror.release_version('<a href="../">../</a>')
    sums = f"{'a' * 64}  prometheus-2.53.3.linux-amd64.tar.gz\n{'b' * 64}  prometheus-2.53.3.linux-arm64.tar.gz\n"
    assert mirror.release_checksums(sums) == {"amd64": "a" * 64, "arm64": "b" * 64}


def test_mirror_is_asked_through_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    # Nobody listens at the port called discard.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "file").write_bytes(b"content")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = mirror.Source(f"http://127.0.0.1:{server.server_port}", "", "debian", "trixie")
        assert source.read("file") == b"content"
        server.shutdown()


def test_package_index_is_upstream_whatever_this_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/of/this/machine")
    monkeypatch.setenv("COLUMNS", "40")
    assert re.fullmatch(r"https://[a-z.]+/simple", mirror.package_index())


def test_folder_with_spaces_reaches_ssh_in_quotes() -> None:
    lab = Lab("a lab", SUBNET, host_list(site_names(1), SUBNET, 2200, {}))
    arguments = yaml.safe_load(inventory.render(lab, {}))["all"]["vars"]["ansible_ssh_common_args"]
    assert shlex.split(arguments)[1] == f'UserKnownHostsFile="{lab.state / "known_hosts"}"'


def test_only_the_stand_in_has_a_remark() -> None:
    assert [component.name for component in mirror.COMPONENTS if component.remark] == ["Grafana's apt repository"]


def test_taken_port_is_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(EvenkeelError, match=f"Port {port} on 127.0.0.1 is taken, and the lab's balancer needs it"):
            hosts.check_ports(Host("balancer", "balancers", "10.213.77.10", port))


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command that was to be refused, and is not, fail the test: it would work on this machine's own lab."""
    for name in ("up", "down"):
        monkeypatch.setattr(f"evenkeel.lab.__main__.{name}", lambda *_: pytest.fail("It went on."))


@pytest.mark.usefixtures("harmless")
def test_command_prints_one_sentence_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--backends", "0"]) == 1
    assert capsys.readouterr().err == "lab: BACKENDS is 0: choose a number from 1 to 200.\n"


def test_without_root_and_sudo_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: None)
    with pytest.raises(EvenkeelError, match="needs root to set up containers, and there is no sudo: run make as root"):
        system.as_root(["dockerd"])


def test_too_little_disk_is_told_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_arguments: "/var/lib/docker\n")
    monkeypatch.setattr(engine, "run", lambda _command: "Avail\n1500000000\n")
    with pytest.raises(EvenkeelError, match=r"4 hosts need about 7 GB and /var/lib/docker has 1\.5 GB free: make room"):
        engine.check_disk(4)


def test_too_few_inotify_instances_are_told_with_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    monkeypatch.setattr(engine, "INSTANCES", limit)
    monkeypatch.setattr(engine, "run", lambda _command: "34\n")
    engine.check_instances(11)
    with pytest.raises(EvenkeelError) as told:
        engine.check_instances(25)
    assert str(told.value) == (
        "25 hosts need about 175 inotify instances, and of this kernel's 128 for root 34 are taken: allow more "
        "(sudo sysctl fs.inotify.max_user_instances=1024), or choose fewer BACKENDS."
    )
    # Another kind of machine has another way.
    limit.unlink()
    engine.check_instances(25)


@pytest.mark.parametrize(("kind", "told"), [("container", True), ("vm", False)])
def test_lab_asks_for_inotify_before_it_makes_containers(
    kind: str, told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    monkeypatch.setattr(engine, "INSTANCES", tmp_path / "max_user_instances")
    engine.INSTANCES.write_text("1\n")
    for name in ("ensure_engine", "check_disk"):
        monkeypatch.setattr(engine, name, lambda *_: None)
    monkeypatch.setattr(hosts, "existing", lambda _: [])
    for each in KINDS.values():
        monkeypatch.setattr(each, "exist", lambda _: False)

    def made(*_: str) -> None:
        raise EvenkeelError("It went on.")

    monkeypatch.setattr(lab_main, "install", made)
    assert main(["up", "--name", "some", "--kind", kind]) == 1
    said = capsys.readouterr().err
    assert ("inotify instances" in said) is told
    assert ("It went on." in said) is not told


def test_failed_command_is_told_with_its_last_words() -> None:
    with pytest.raises(EvenkeelError, match=r"Counting failed \(exit code 3\):\nno such number"):
        system.run(["sh", "-c", "echo no such number >&2; exit 3"], failure="Counting failed")
    with pytest.raises(EvenkeelError, match="there is no program `no-such-program`"):
        system.run(["no-such-program"])


def test_images_of_the_mirror_have_a_dockerfile_and_an_exact_reference() -> None:
    offered = {image for component in mirror.COMPONENTS for image in component.images}
    assert {image.role for image in offered} == {"backend_app", "pushgateway"}
    for image in offered:
        assert (PROJECT / "lab" / "mirror" / image.folder / "Dockerfile").is_file()
        # Without the registry's name: it is asked for under the mirror's.
        assert re.fullmatch(r"(library|prom)/[a-z]+:v?\d+\.\d+[a-z0-9.-]*", image.reference)


def test_images_are_missed_with_docker_hub_only() -> None:
    assert [component.name for component in mirror.COMPONENTS if component.images] == ["Docker Hub"]


@contextmanager
def _at_work(project: Path) -> Iterator[None]:
    """Hold the lock of the lab with the default name, as another command would."""
    (project / ".lab").mkdir()
    with (project / ".lab" / "lab.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("harmless")
def test_second_command_on_a_lab_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    with _at_work(tmp_path):
        assert main(["down"]) == 1
    assert "Another command is working on the lab `lab`: wait until it has ended." in capsys.readouterr().err


def test_engine_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    asked = threading.Event()
    monkeypatch.setattr(engine, "ensure_engine", asked.set)
    codes: list[int] = []
    second = threading.Thread(target=lambda: codes.append(main(["engine"])), daemon=True)
    with _at_work(tmp_path):
        second.start()
        assert not asked.wait(0.3)
        assert codes == []
    second.join(60)
    assert codes == [0]
    assert asked.is_set()


@pytest.mark.parametrize(("nice", "wanted"), [(0, ()), (5, ("--cpu-shares=336",)), (19, ("--cpu-shares=15",))])
def test_hosts_give_way_as_their_maker_does(nice: int, wanted: tuple[str, ...]) -> None:
    assert containers.cpu_shares(nice) == wanted
