"""What the hosts of every lab have, whatever they are: a network, keys, containers with their ports, an sshd."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from evenkeel.errors import EvenkeelError
from evenkeel.lab.engine import answers, docker, succeeds
from evenkeel.lab.settings import Host, Lab
from evenkeel.lab.system import run, say

_LABEL = "evenkeel.definition"
IPV6 = Path("/proc/net/if_inet6")


def ensure_network(lab: Lab) -> None:
    """Make the lab's network, unless it is there; raises EvenkeelError where the subnet is taken."""
    if succeeds("network", "inspect", lab.prefix):
        configs = json.loads(docker("network", "inspect", lab.prefix))[0]["IPAM"]["Config"]
        subnets = [config["Subnet"] for config in configs]
        if str(lab.subnet) in subnets:
            return
        raise EvenkeelError(
            f"The network {lab.prefix} has the subnet {' and '.join(subnets)}, not {lab.subnet}: run make lab-down "
            "first."
        )
    for route in json.loads(run(["ip", "-json", "-4", "route"]) or "[]"):
        if route["dst"] != "default" and ipaddress.IPv4Network(route["dst"], strict=False).overlaps(lab.subnet):
            raise EvenkeelError(
                f"The lab's subnet {lab.subnet} overlaps {route['dst']}, which {route.get('dev', 'a route')} uses: set "
                "LAB_SUBNET to a free /24."
            )
    # A machine without IPv6 has hosts without it.
    ipv6 = ["--ipv6", "--subnet", str(lab.subnet6)] if IPV6.exists() else []
    docker("network", "create", "--subnet", str(lab.subnet), *ipv6, lab.prefix)


def ensure_key(lab: Lab) -> Path:
    """Make the lab's SSH key pair, unless it is there, and return the private key's path."""
    key = lab.state / "id_ed25519"
    if not (key.exists() and key.with_suffix(".pub").exists()):
        lab.state.mkdir(parents=True, exist_ok=True)
        key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab.prefix, "-f", str(key)])
    return key


def ensure_containers(lab: Lab, commands: dict[str, tuple[str, ...]]) -> None:
    """Start a container for each host; keep those that run as defined, remove those that don't belong.

    Args:
        lab: the lab, whose network exists.
        commands: what is behind ``docker run``, by the container's name.

    Raises:
        EvenkeelError: a loopback port is taken; nothing was started then.
    """
    wanted, commands = len(commands), dict(commands)
    present = existing(lab)
    for container, definition in present.items():
        if container not in commands:
            say(f"removing {container}, which is no longer asked for")
        elif definition != _definition(commands[container]):
            say(f"removing {container}, whose definition has changed")
        else:
            # One that runs is left alone by this, one that was stopped goes on with its files.
            docker("start", container)
            del commands[container]
            continue
        docker("rm", "--force", "--volumes", container)
    for host in lab.hosts:
        if lab.container(host) in commands:
            check_ports(host)
    for container, command in commands.items():
        docker(
            "run",
            "--detach",
            f"--label={_LABEL}={_definition(command)}",
            *command,
            failure=f"Starting {container} failed",
        )
    say(f"{wanted - len(commands)} containers kept, {len(commands)} started")


def wait_for_ssh(lab: Lab, seconds: float, last_words: Callable[[Host], str]) -> None:
    """Wait until sshd of every host greets.

    Raises:
        EvenkeelError: a host did not come up within so many seconds; with the end of what it said.
    """
    deadline = time.monotonic() + seconds
    for host in lab.hosts:
        while not _accepts(host.ssh_port):
            if time.monotonic() > deadline:
                state = last_words(host).strip()
                raise EvenkeelError(
                    f"{lab.container(host)} did not boot within {seconds:.0f} s; its last words: {state or 'none'}"
                )
            time.sleep(0.2)


def existing(lab: Lab) -> dict[str, str]:
    """Return the containers of a lab's hosts, running or not, each with the hash of what it was made from."""
    form = f'{{{{.Names}}}}\t{{{{.Label "{_LABEL}"}}}}'
    lines = docker("ps", "--all", "--filter", f"label={_LABEL}", "--format", form).splitlines()
    return {
        name: definition
        for name, definition in (line.split("\t") for line in lines)
        if name.startswith(f"{lab.prefix}-")
    }


def remove(container: str) -> None:
    """Remove a container with its volumes, where there is one."""
    if succeeds("container", "inspect", container):
        docker("rm", "--force", "--volumes", container)


def remove_containers(lab: Lab) -> None:
    """Remove the containers of a lab's hosts; where no engine answers, none runs."""
    if answers():
        for container in existing(lab):
            remove(container)


def _definition(command: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]


def check_ports(host: Host) -> None:
    """Raise EvenkeelError where a loopback port of the host is taken."""
    for port in [host.ssh_port, *host.published]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise EvenkeelError(
                    f"Port {port} on 127.0.0.1 is taken, and the lab's {host.name} needs it: stop what listens there "
                    "(ss -ltnp), or choose another with the LAB_*_PORT variables (make help)."
                ) from None


def _accepts(port: int) -> bool:
    """Tell whether sshd greets on a loopback port (Docker's proxy accepts before anybody listens behind it)."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
