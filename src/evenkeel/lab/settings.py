"""What one lab is: its hosts, its network, its ports and where its files lie."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from evenkeel.errors import EvenkeelError

PROJECT = Path(__file__).resolve().parents[3]
MAX_BACKENDS = 200
DEFAULT_NAME = "lab"
_FIRST_ADDRESS = 10
_GATEWAY = 1
_MIRROR_ADDRESS = 2
_ISSUER_ADDRESS = 3
REACHED_BY = ("ipv4", "ipv6", "name")


@dataclass(frozen=True)
class Host:
    """One host of a lab.

    Attributes:
        name: its inventory name.
        group: its inventory group.
        address: its address in the lab's network, the one other hosts use.
        ssh_port: the loopback port of this machine that leads to its sshd.
        published: further loopback ports of this machine and the host's ports they lead to.
        reached_by: what its service address is: one of REACHED_BY.
    """

    name: str
    group: str
    address: str
    ssh_port: int
    published: dict[int, int] = field(default_factory=dict)
    reached_by: str = "ipv4"


@dataclass(frozen=True)
class Lab:
    """One lab; labs of different names, subnets and ports run side by side.

    Attributes:
        name: part of every container's and network's name.
        subnet: the network of the hosts, IPv4, at least a /24.
        hosts: the hosts in inventory order.
    """

    name: str
    subnet: ipaddress.IPv4Network
    hosts: tuple[Host, ...]

    @property
    def prefix(self) -> str:
        """What the names of all its containers and its network begin with."""
        return f"evenkeel-{self.name}"

    @property
    def state(self) -> Path:
        """The folder of its keys and logs."""
        return PROJECT / ".lab" / self.name

    @property
    def inventory(self) -> Path:
        """The inventory file that is written: the lab's own is where users look, others lie with their state."""
        return (PROJECT / "inventories" / "lab" if self.name == DEFAULT_NAME else self.state) / "hosts.yml"

    @property
    def subnet6(self) -> ipaddress.IPv6Network:
        """The network of the hosts' IPv6 addresses, private, and made of the other one."""
        return ipaddress.IPv6Network((0xFD << 120 | int(self.subnet.network_address) << 80, 64))

    @property
    def gateway(self) -> str:
        """This machine's address in the lab's network, from which its hosts see what comes through loopback ports."""
        return str(self.subnet[_GATEWAY])

    @property
    def mirror_address(self) -> str:
        """The mirror's address in the lab's network."""
        return str(self.subnet[_MIRROR_ADDRESS])

    @property
    def issuer_address(self) -> str:
        """The issuer's address in the lab's network, where it has one."""
        return str(self.subnet[_ISSUER_ADDRESS])

    def container(self, host: Host) -> str:
        """The name of a host's container; the engine's DNS gives it to the others."""
        return f"{self.prefix}-{host.name}"

    def address6(self, host: Host) -> str:
        """A host's IPv6 address, where the machine has IPv6: the last part is that of the other address."""
        offset = int(ipaddress.IPv4Address(host.address)) - int(self.subnet.network_address)
        return str(self.subnet6[offset])

    def service_address(self, host: Host) -> str:
        """By what other hosts reach a host."""
        return {"ipv4": host.address, "ipv6": self.address6(host), "name": self.container(host)}[host.reached_by]


def host_list(
    names: dict[str, str],
    subnet: ipaddress.IPv4Network,
    ssh_base: int,
    published: dict[str, dict[int, int]],
    *,
    ipv6: bool = True,
) -> tuple[Host, ...]:
    """Give every host its address and port by its place in the list.

    Args:
        names: inventory name to group, in order; behind a colon, by what the host is reached.
        subnet: the lab's network.
        ssh_base: the first host's SSH port; the others follow.
        published: further ports by host name, each this machine's port to the host's.
        ipv6: whether this machine knows IPv6; without it, hosts are reached by IPv4 instead.
    """

    def way(text: str) -> str:
        return text if text in REACHED_BY and (ipv6 or text != "ipv6") else REACHED_BY[0]

    return tuple(
        Host(
            name,
            group.partition(":")[0],
            str(subnet[_FIRST_ADDRESS + index]),
            ssh_base + index,
            published.get(name, {}),
            way(group.partition(":")[2]),
        )
        for index, (name, group) in enumerate(names.items())
    )


def site_names(backends: int) -> dict[str, str]:
    """Return the hosts of a site with ``backends`` backends; raises EvenkeelError outside 1 to MAX_BACKENDS."""
    if not 1 <= backends <= MAX_BACKENDS:
        raise EvenkeelError(f"BACKENDS is {backends}: choose a number from 1 to {MAX_BACKENDS}.")
    return {"balancer": "balancers"} | {f"backend-{number}": "backends" for number in range(1, backends + 1)}


def parse_hosts(text: str) -> dict[str, str]:
    """Return ``name:group,name:group`` as a mapping; raises EvenkeelError where a part is no such pair.

    A group may be followed by what the host is reached by, ``name:group:ipv6``.
    """
    pairs = [item.partition(":") for item in text.split(",") if item]
    for name, _, group in pairs:
        way = group.partition(":")[2] or REACHED_BY[0]
        if not name or not group or way not in REACHED_BY:
            raise EvenkeelError(
                f"--hosts is {text!r}: write name:group pairs with commas between them, or name:group:way with one of "
                f"{', '.join(REACHED_BY)}."
            )
    return {name: group for name, _, group in pairs}


def parse_subnet(text: str) -> ipaddress.IPv4Network:
    """Return ``text`` as a network; raises EvenkeelError where it is none, or too small for a lab."""
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise EvenkeelError(
            f"The lab's subnet {text!r} is no IPv4 network ({error}): use one such as 10.213.77.0/24."
        ) from None
    if subnet.prefixlen > 24:
        raise EvenkeelError(f"The lab's subnet {text} is too small: use a /24 or larger.")
    return subnet
