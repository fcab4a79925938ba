"""A lab's hosts as containers: systemd and sshd in them, the kernel is this machine's."""

from __future__ import annotations

import os

from evenkeel.lab import images
from evenkeel.lab.engine import client, docker
from evenkeel.lab.hosts import ensure_containers, ensure_key, existing, remove_containers, wait_for_ssh
from evenkeel.lab.settings import Host, Lab

_BOOT_SECONDS = 90
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

choose_base = images.base_image
remove_hosts = remove_containers


def exist(lab: Lab) -> bool:
    """Return whether the lab has containers."""
    return bool(existing(lab))


def ensure_hosts(lab: Lab, base: str) -> None:
    """Start the lab's hosts, made of the image ``base``, as :func:`ensure_containers` does."""
    image = images.host_image(base)
    public_key = ensure_key(lab).with_suffix(".pub").read_text().strip()
    ensure_containers(lab, {lab.container(host): _run_command(lab, host, image, public_key) for host in lab.hosts})


def wait_for_hosts(lab: Lab) -> None:
    """Wait until every host has booted, and write their host keys to ``known_hosts``; raises EvenkeelError."""
    known = []
    wait_for_ssh(lab, _BOOT_SECONDS, lambda host: docker("logs", "--tail", "5", lab.container(host)))
    for host in lab.hosts:
        container = lab.container(host)
        # Through the engine, not the network: nobody can stand in between.
        key = docker("exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        known.append(f"[127.0.0.1]:{host.ssh_port} {key[0]} {key[1]}\n")
    (lab.state / "known_hosts").write_text("".join(known))


def variables(lab: Lab) -> dict[str, object]:
    """Return what the inventory says of these hosts: who reaches them, how their power is cut and given back."""
    engine, container = " ".join(client()), f"{lab.prefix}-{{{{ chaos_host }}}}"
    return {
        # This machine, through its loopback ports too.
        "admin_networks": [lab.gateway],
        # First its network: the killed processes' sockets would still say goodbye.
        "chaos_power_off": f"{engine} exec {container} ip link set eth0 down\n{engine} kill {container} >/dev/null",
        "chaos_power_on": f"{engine} start {container} >/dev/null",
    }


def _run_command(lab: Lab, host: Host, image: str, public_key: str) -> tuple[str, ...]:
    ports = {host.ssh_port: 22} | host.published
    return (
        f"--name={lab.container(host)}",
        f"--hostname={host.name}",
        f"--network={lab.prefix}",
        f"--ip={host.address}",
        # Elsewhere the engine gives them out.
        *([f"--ip6={lab.address6(host)}"] if any(each.reached_by == "ipv6" for each in lab.hosts) else []),
        f"--env=EVENKEEL_SSH_KEY={public_key}",
        *(f"--publish=127.0.0.1:{outside}:{inside}" for outside, inside in ports.items()),
        *_RIGHTS,
        *cpu_shares(os.nice(0)),
        image,
    )


def cpu_shares(nice: int) -> tuple[str, ...]:
    """Return what lets a host take as much of the CPU as its maker's niceness does: each step is a fifth less."""
    return (f"--cpu-shares={max(2, round(1024 / 1.25**nice))}",) if nice > 0 else ()
