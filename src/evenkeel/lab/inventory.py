"""The lab's inventory file: the hosts as an operator would list them, and what sets them apart from others."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from evenkeel.lab.settings import Lab

_HEADER = "# Written by `make lab`; its own settings go into group_vars/ beside this file.\n"


def render(lab: Lab, variables: dict[str, object]) -> str:
    """Return the inventory as YAML.

    Args:
        lab: the lab.
        variables: what its kind of hosts says, and the role variables that lead to the mirror, where one is needed.
    """
    # The inner quotes are for SSH, which takes several files apart by spaces; the outer ones for Ansible.
    known_hosts = f'UserKnownHostsFile="{lab.state / "known_hosts"}"'
    ssh = {
        "ansible_host": "127.0.0.1",
        "ansible_user": "ops",
        "ansible_ssh_private_key_file": str(lab.state / "id_ed25519"),
        # One file for all of the lab's keys, and none of the user's. The key exchange that is safe from quantum
        # computers costs a client 60 ms of CPU for each login, and nobody records what this machine says to itself.
        "ansible_ssh_common_args": f"-o {shlex.quote(known_hosts)} -o GlobalKnownHostsFile=/dev/null "
        "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o KexAlgorithms=^curve25519-sha256 -o ConnectTimeout=120",
    }
    # With the lab's keys: it goes when the lab goes.
    secrets = {"grafana_password_file": str(lab.state / "grafana_admin_password")}
    chaos = {
        "chaos_lab": True,
        # All hosts share this machine's disk.
        "chaos_fill_disk_max_mb": 512,
    }
    # Seconds, of a machine that all hosts share: what takes one of them a moment may take it a minute here.
    patience = {
        "cpu_monitor_start_seconds": 60,
        "front_wait": 120,
        "pushgateway_ready_seconds": 120,
        "rolling_update_up_seconds": 120,
    }
    groups: dict[str, Any] = {}
    for host in lab.hosts:
        members = groups.setdefault(host.group, {"hosts": {}})["hosts"]
        # The connection stands with each host: molecule's own inventory, read before this one, names another there.
        members[host.name] = {
            "ansible_connection": "ssh",
            "ansible_port": host.ssh_port,
            "service_address": lab.service_address(host),
        }
        # By IPv6 it asks them from its other address.
        if host.reached_by != "ipv6" and any(each.reached_by == "ipv6" for each in lab.hosts):
            members[host.name]["firewall_addresses"] = [lab.address6(host)]
    return _HEADER + yaml.safe_dump(
        {"all": {"vars": ssh | secrets | chaos | patience | variables, "children": groups}}, sort_keys=False, width=1000
    )
