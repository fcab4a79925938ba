"""A lab's containers: the network, the hosts with systemd and sshd, their keys."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import time
from pathlib import Path

from evenkeel.errors import EvenkeelError
from evenkeel.lab.engine import docker, succeeds
from evenkeel.lab.settings import Host, Lab
from evenkeel.lab.system import run, say

_BOOT_SECONDS = 90
_LABEL = "evenkeel.definition"
# systemd and a nested engine need nearly every right. Not --privileged: where the machine itself lacks a capability
# (SYS_RESOURCE is missing in some sandboxes) that is refused as a whole.
_RIGHTS = (
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=private",
    "--tmpfs=/run",
    "--tmpfs=/tmp:exec",
    # Overlay filesystems don't nest; containerd keeps the images from Docker 29 on.
    "--volume=/var/lib/docker",
    "--volume=/var/lib/containerd",
    # `systemctl reboot` ends the container; the engine starts it again, with its files kept.
    "--restart=unless-stopped",
)


def ensure_network(lab: Lab) -> None:
    """Make the lab's network, unless it is there; raises EvenkeelError where the subnet is taken."""
    if succeeds("network", "inspect", lab.prefix):
        config = json.loads(docker("network", "inspect", lab.prefix))[0]["IPAM"]["Config"][0]
        if config["Subnet"] == str(lab.subnet):
            return
        raise EvenkeelError(
            f"The network {lab.prefix} has the subnet {config['Subnet']}, not {lab.subnet}: run make lab-down first."
        )
    for route in json.loads(run(["ip", "-json", "-4", "route"]) or "[]"):
        if route["dst"] != "default" and ipaddress.IPv4Network(route["dst"], strict=False).overlaps(lab.subnet):
            raise EvenkeelError(
                f"The lab's subnet {lab.subnet} overlaps {route['dst']}, which {route.get('dev', 'a route')} uses: set "
                "LAB_SUBNET to a free /24."
            )
    docker("network", "create", "--subnet", str(lab.subnet), lab.prefix)


def ensure_key(lab: Lab) -> Path:
    """Make the lab's SSH key pair, unless it is there, and return the private key's path."""
    key = lab.state / "id_ed25519"
    if not (key.exists() and key.with_suffix(".pub").exists()):
        lab.state.mkdir(parents=True, exist_ok=True)
        key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab.prefix, "-f", str(key)])
    return key


def ensure_hosts(lab: Lab, image: str) -> None:
    """Start the lab's hosts; keep those that run as defined, remove those that don't belong.

    Raises:
        EvenkeelError: a loopback port is taken; nothing was started then.
    """
    public_key = ensure_key(lab).with_suffix(".pub").read_text().strip()
    commands = {lab.container(host): _run_command(lab, host, image, public_key) for host in lab.hosts}
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
    say(f"{len(lab.hosts) - len(commands)} hosts kept, {len(commands)} started")


def wait_for_hosts(lab: Lab) -> None:
    """Wait until every host has booted, and write their host keys to ``known_hosts``.

    Raises:
        EvenkeelError: a host did not come up in time; with its failed units.
    """
    deadline = time.monotonic() + _BOOT_SECONDS
    known = []
    for host in lab.hosts:
        container = lab.container(host)
        while not _accepts(host.ssh_port):
            if time.monotonic() > deadline:
                state = docker("logs", "--tail", "5", container).strip()
                raise EvenkeelError(
                    f"{container} did not boot within {_BOOT_SECONDS} s; its last words: {state or 'none'}"
                )
            time.sleep(0.2)
        # Through the engine, not the network: nobody can stand in between.
        key = docker("exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        known.append(f"[127.0.0.1]:{host.ssh_port} {key[0]} {key[1]}\n")
    (lab.state / "known_hosts").write_text("".join(known))


def existing(lab: Lab) -> dict[str, str]:
    """Return the containers of a lab's hosts, running or not, each with the hash of what it was made from."""
    form = f'{{{{.Names}}}}\t{{{{.Label "{_LABEL}"}}}}'
    lines = docker("ps", "--all", "--filter", f"label={_LABEL}", "--format", form).splitlines()
    return {
        name: definition
        for name, definition in (line.split("\t") for line in lines)
        if name.startswith(f"{lab.prefix}-")
    }


def _run_command(lab: Lab, host: Host, image: str, public_key: str) -> tuple[str, ...]:
    ports = {host.ssh_port: 22} | host.published
    return (
        f"--name={lab.container(host)}",
        f"--hostname={host.name}",
        f"--network={lab.prefix}",
        f"--ip={host.address}",
        f"--env=EVENKEEL_SSH_KEY={public_key}",
        *(f"--publish=127.0.0.1:{outside}:{inside}" for outside, inside in ports.items()),
        *_RIGHTS,
        image,
    )


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
