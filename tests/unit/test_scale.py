"""What all hosts' variables are made into grows as the hosts do, and no faster: counted in looks, not in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service_problems import services_problems
from services import services_described, services_with_servers
from settings import settings_problems


class Groups(Mapping[str, list[str]]):
    """Ansible's ``groups``, which makes its lists anew at each look: counts how many hosts were handed out."""

    def __init__(self, hosts: list[str]) -> None:
        """Have one group of these hosts."""
        self._hosts = hosts
        self.handed: Counter[str] = Counter()

    def __getitem__(self, name: str) -> list[str]:
        """Hand them out."""
        self.handed[name] += len(self._hosts)
        return list(self._hosts)

    def __iter__(self) -> Iterator[str]:
        """Name the group."""
        return iter(["backends"])

    def __len__(self) -> int:
        """Count the group."""
        return 1


class Hosts(list[str]):
    """One of Ansible's lists: counts how many hosts were looked at."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        """Look at all of them."""
        self.looked += len(self)
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        """Look at all of them."""
        return name in list(iter(self))


@pytest.mark.parametrize("count", [10, 300])
def test_settings_look_at_each_list_of_hosts_a_few_times(count: int) -> None:
    names = [f"backend-{number}" for number in range(count)]
    hostvars: dict[str, dict[str, Any]] = {name: {"ansible_host": "192.0.2.1"} for name in [*names, "localhost"]}
    # Wrong on all of them, which is told once.
    for name in names:
        hostvars[name]["pushgateway_port"] = 0
    places = {role: Hosts(names) for role in ("backend_app", "pushgateway", "docker")}
    (told,) = settings_problems(hostvars, places, Hosts(names))
    assert "every host" in told
    assert max(hosts.looked for hosts in places.values()) <= 2 * count


@pytest.mark.parametrize("count", [10, 300])
def test_each_host_is_looked_at_a_few_times_however_many_there_are(count: int) -> None:
    hosts = [f"backend-{number}" for number in range(count)]
    described = services_described({"shop": {"image": "site.example/shop", "version": "1.0", "port": 8000}}, {})
    hostvars: dict[str, dict[str, Any]] = {
        host: {"topology_services_told": described, "topology_agent_port": 9190} for host in hosts
    }
    groups = Groups(hosts)
    assert services_problems(hostvars, hosts, groups) == []
    endpoints = [{"name": host, "address": host, "port": 80} for host in hosts]
    servers = services_with_servers(described, endpoints, hostvars, groups)[0]["servers"]
    assert [server["name"] for server in servers] == hosts
    assert groups.handed.total() <= 4 * count
