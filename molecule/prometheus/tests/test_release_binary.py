"""The building block that installs upstream releases, with a release of two small scripts served on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scenario import Scenario, recap, wait_until

PLAYBOOK = "molecule/prometheus/release_binary.yml"
RESTARTED = "RUNNING HANDLER [Restart tool]"
MAKE = """
set -eu
rm -rf /srv/releases /opt/tool /usr/local/bin/tool /usr/local/bin/tooladm
mkdir -p /srv/releases && cd /srv/releases
for version in 1.0 2.0 3.0; do
    for arch in amd64 arm64; do
        folder=tool-$version.linux-$arch
        mkdir $folder
        for program in tool tooladm; do
            printf '#!/bin/sh\\necho %s %s\\n' $program $version >$folder/$program
            chmod 0755 $folder/$program
        done
        tar --create --gzip --file=$folder.tar.gz $folder
    done
done
"""
REBUILD = """
set -eu
cd /srv/releases
for arch in amd64 arm64; do
    folder=tool-1.0.linux-$arch
    printf '#!/bin/sh\\necho rebuilt\\n' >$folder/tool
    tar --create --gzip --file=$folder.tar.gz $folder
done
"""


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("prometheus-1")


@pytest.fixture(autouse=True)
def releases(host: Any) -> Iterator[None]:
    """Serve the releases 1.0 to 3.0 on port 9199, on a host without the tool."""
    host.check_output(MAKE)
    host.check_output(
        "systemd-run --unit=releases --working-directory=/srv/releases --property=RuntimeMaxSec=600 "
        "python3 -m http.server --bind 127.0.0.1 9199"
    )
    wait_until(lambda: host.run("curl --silent --fail http://127.0.0.1:9199/").rc == 0, "the releases are served")
    yield
    host.run("systemctl stop releases")


def install(
    scenario: Scenario, host: Any, version: str, *arguments: str, checksum: str = ""
) -> subprocess.CompletedProcess[str]:
    """Install a version of the tool and return the play's result."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[host.check_output("uname -m")]
    file = f"/srv/releases/tool-{version}.linux-{arch}.tar.gz"
    checksum = checksum or host.check_output("sha256sum %s", file).split()[0]
    return scenario.play(PLAYBOOK, "-e", f"tool_version='{version}' tool_checksum={checksum}", *arguments)


def changed(run: subprocess.CompletedProcess[str]) -> int:
    """Return how many tasks changed something in a play that must have succeeded."""
    assert run.returncode == 0, run.stdout
    return recap(run.stdout)["prometheus-1"]["changed"]


def test_check_mode_tells_and_changes_nothing(scenario: Scenario, host: Any) -> None:
    run = install(scenario, host, "1.0", "--check", "--diff")
    assert changed(run) == 1
    assert "tool 1.0 is not here yet" in " ".join(run.stdout.split())
    assert not host.file("/opt/tool").exists


def test_versions_switch_and_the_former_one_stays(scenario: Scenario, host: Any) -> None:
    # And so does what others put beside them.
    host.check_output("mkdir -p /opt/tool/data && echo theirs >/opt/tool/data/file")
    for version in ("1.0", "2.0", "3.0"):
        run = install(scenario, host, version)
        assert changed(run) > 0
        assert RESTARTED in run.stdout
        assert host.check_output("tool; tooladm") == f"tool {version}\ntooladm {version}"
    assert sorted(host.check_output("ls /opt/tool").split()) == ["2.0", "3.0", "current", "data"]
    assert host.check_output("cat /opt/tool/data/file") == "theirs"
    assert host.file("/opt/tool/3.0/tool").user == "root"
    # The same again and then back, both with upstream gone.
    host.check_output("systemctl stop releases")
    run = install(scenario, host, "3.0")
    assert changed(run) == 0
    assert RESTARTED not in run.stdout
    run = install(scenario, host, "2.0")
    assert changed(run) == 1, "the link alone"
    assert RESTARTED in run.stdout
    assert host.check_output("tool; tooladm") == "tool 2.0\ntooladm 2.0"


def test_only_the_tarball_of_this_checksum_is_used(scenario: Scenario, host: Any) -> None:
    assert changed(install(scenario, host, "2.0")) > 0
    run = install(scenario, host, "1.0", checksum="0" * 64)
    assert run.returncode != 0
    assert "did not match" in " ".join(run.stdout.split())
    assert host.check_output("tool") == "tool 2.0"
    # What the failed run left behind must not pass for the release, nor an older tarball for a rebuilt one.
    assert changed(install(scenario, host, "1.0")) > 0
    assert host.check_output("tool; tooladm") == "tool 1.0\ntooladm 1.0"
    host.check_output(REBUILD)
    run = install(scenario, host, "1.0")
    assert changed(run) > 0
    assert RESTARTED in run.stdout
    assert host.check_output("tool") == "rebuilt"


def test_program_of_somebody_else_is_replaced_only_when_said(scenario: Scenario, host: Any) -> None:
    host.check_output("echo theirs >/usr/local/bin/tooladm")
    assert install(scenario, host, "1.0").returncode != 0
    assert host.check_output("cat /usr/local/bin/tooladm") == "theirs"
    assert changed(install(scenario, host, "1.0", "-e", "tool_force=true")) > 0
    assert host.check_output("tooladm") == "tooladm 1.0"
