"""A lab's VMs: hosts with a kernel of their own, by qemu where KVM works, elsewhere as user-mode Linux.

Each host has a tap on the lab's network, a disk of its own over a common one, and a seed for cloud-init. A small
container beside it leads its loopback ports to it, so that inventory, ports and commands are those of container hosts.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import yaml

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images
from evenkeel.lab.engine import docker
from evenkeel.lab.hosts import ensure_containers, ensure_key, remove_containers, wait_for_ssh
from evenkeel.lab.providers import qemu, uml
from evenkeel.lab.settings import PROJECT, Host, Lab
from evenkeel.lab.system import as_root, install, run, say

_BOOT_SECONDS = 300
_MEGABYTES = 1280
# Kept when a lab goes, as images are.
_DISKS = PROJECT / ".lab" / "disks"
_POWER_ON = """#!/bin/sh
# Starts the host, unless it runs. Written by evenkeel.
cd {folder} || exit
if [ -s pid ] && grep -qs {name} "/proc/$(cat pid)/cmdline"; then exit; fi
# Its memory is a file.
export TMPDIR=/dev/shm
setsid sh -c 'echo $$ >pid; exec {command}' </dev/null >>console.log 2>&1 &
"""
_POWER_OFF = """#!/bin/sh
# Cuts the host's power: nothing of it says goodbye. Written by evenkeel.
cd {folder} || exit
[ -s pid ] || exit 0
pid=$(cat pid)
grep -qs {name} "/proc/$pid/cmdline" || exit 0
kill -s KILL -- "-$pid"
for try in $(seq 300); do
  kill -s 0 -- "-$pid" 2>/dev/null || break
  sleep 0.1
done
rm pid
"""


class Provider(Protocol):
    """What runs VMs on this machine: a module."""

    def ensure_tools(self) -> None:
        """Install what is missing; raises EvenkeelError."""

    def memory(self) -> tuple[str, int]:
        """Return where the VMs' memory is taken from, and how many bytes are free there."""

    def disk(self, folder: Path, base: str) -> Path:
        """Return the disk, in ``folder``, that all hosts on the image ``base`` begin with; raises EvenkeelError."""

    def prepare(self, folder: Path) -> None:
        """Make in a host's folder what it needs beside ``base.disk`` there; raises EvenkeelError."""

    def command(self, name: str, tap: str, mac: str, megabytes: int) -> list[str]:
        """Return what starts the host of a folder, which is the working folder then.

        Args:
            name: what it is called on this machine.
            tap: its network device on this machine.
            mac: the hardware address of its own.
            megabytes: its memory.
        """


def _provider(base: str) -> Provider:
    """Return what runs VMs made of ``base`` here; only Debian 13 needs no KVM."""
    return uml if base == images.DEBIAN_BASE else qemu


def choose_base(wanted: str) -> str:
    """Return the image of the release that the VMs are to have; raises EvenkeelError where it can't be had.

    Args:
        wanted: an image reference, ``LAB_BASE``; empty means the default, which may be replaced by Debian 13.
    """
    if not qemu.works():
        if wanted:
            raise EvenkeelError(
                f"LAB_BASE is {wanted}, and without KVM a lab's VMs are Debian 13: leave LAB_BASE or KIND=vm out."
            )
        return images.debian_base()
    base = images.base_image(wanted)
    if base != images.DEBIAN_BASE:
        image, _ = qemu.source(*images.release(base))
        if not qemu.there(_DISKS, image):
            if wanted:
                raise EvenkeelError(f"{image} can't be had: leave LAB_BASE out, or try again.")
            say(f"{image} can't be had here: the hosts run Debian 13, made from the archive, instead")
            return images.debian_base()
    return base


def ensure_hosts(lab: Lab, base: str) -> None:
    """Start the lab's VMs; those that run are left alone.

    Args:
        lab: the lab, whose network exists.
        base: the image that their disk is made of, and that of the containers that lead loopback ports to them.

    Raises:
        EvenkeelError: something is missing, memory is short, or a loopback port is taken.
    """
    provider = _provider(base)
    provider.ensure_tools()
    install("genisoimage", "genisoimage")
    install("ethtool", "ethtool")
    for folder in _folders(lab):
        if folder.name not in {host.name for host in lab.hosts}:
            _remove(folder)
    check_memory(lab, provider)
    image = images.host_image(base)
    ensure_containers(lab, {lab.container(host): _forwarder(lab, host, image) for host in lab.hosts})
    _DISKS.mkdir(parents=True, exist_ok=True)
    disk = provider.disk(_DISKS, base)
    public_key = ensure_key(lab).with_suffix(".pub").read_text().strip()
    network = json.loads(docker("network", "inspect", lab.prefix))[0]
    bridge = network["Options"].get("com.docker.network.bridge.name", f"br-{network['Id'][:12]}")
    gateway = network["IPAM"]["Config"][0].get("Gateway", str(lab.subnet[1]))
    for host in lab.hosts:
        folder = _folder(lab, host)
        if not (folder / "power-on").exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_seed(lab, host, public_key, gateway)
            write_power(lab, host, provider, disk)
        _ensure_tap(tap(host), bridge)
        run([str(folder / "power-on")])


def _forwarder_address(lab: Lab, host: Host) -> str:
    """Return the address of what leads a host's loopback ports to it, out of the way of the hosts' own."""
    return str(lab.subnet[-2 - lab.hosts.index(host)])


def _forwarder(lab: Lab, host: Host, image: str) -> tuple[str, ...]:
    """Return the arguments of ``docker run`` for what leads a host's loopback ports to it."""
    ports = {host.ssh_port: 22} | host.published
    proxy = "/usr/lib/systemd/systemd-socket-proxyd"
    lines = [
        f"systemd-socket-activate --listen={inside} {proxy} {host.address}:{inside} &" for inside in ports.values()
    ]
    return (
        f"--name={lab.container(host)}",
        f"--network={lab.prefix}",
        f"--ip={_forwarder_address(lab, host)}",
        "--init",
        "--restart=unless-stopped",
        *(f"--publish=127.0.0.1:{outside}:{inside}" for outside, inside in ports.items()),
        image,
        "sh",
        "-c",
        "\n".join([*lines, "wait"]),
    )


def wait_for_hosts(lab: Lab) -> None:
    """Write the host keys to ``known_hosts`` and wait until every host has booted; raises EvenkeelError."""
    lines = []
    for host in lab.hosts:
        key = (_folder(lab, host) / "ssh_host_ed25519_key.pub").read_text().split()
        lines.append(f"[127.0.0.1]:{host.ssh_port} {key[0]} {key[1]}\n")
    (lab.state / "known_hosts").write_text("".join(lines))
    wait_for_ssh(lab, _BOOT_SECONDS, lambda host: last_words(_folder(lab, host) / "console.log"))


def last_words(console: Path) -> str:
    """Return the last five lines of a console; where its last boot ended in a panic, those up to the panic."""
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    boot = max((number for number, line in enumerate(lines) if "Linux version " in line), default=0)
    # A panic is explained before its long trace.
    panic = next((number for number in range(boot, len(lines)) if "Kernel panic" in lines[number]), len(lines))
    return "\n".join(lines[: panic + 1][-5:])


def exist(lab: Lab) -> bool:
    """Return whether the lab has VMs, running or not."""
    return (lab.state / "vm").exists()


def remove_hosts(lab: Lab) -> None:
    """Cut the power of all VMs of a lab, and remove their disks, taps and the containers beside them."""
    if not exist(lab):
        return
    for folder in _folders(lab):
        _remove(folder)
    shutil.rmtree(lab.state / "vm", ignore_errors=True)
    remove_containers(lab)


def _remove(folder: Path) -> None:
    if (folder / "power-off").exists():
        run([str(folder / "power-off")])
    if (folder / "tap").exists():
        device = (folder / "tap").read_text()
        run(as_root(["sh", "-c", f"[ ! -e /sys/class/net/{device} ] || ip link delete {device}"]))
    shutil.rmtree(folder)


def _runs(folder: Path) -> bool:
    # What was left by a machine that went down names a process that is gone.
    return (folder / "pid").exists() and Path("/proc", (folder / "pid").read_text().strip()).exists()


def check_memory(lab: Lab, provider: Provider) -> None:
    """Refuse to start VMs that this machine has no memory for; raises EvenkeelError with both numbers."""
    starting = sum(not _runs(_folder(lab, host)) for host in lab.hosts)
    where, free = provider.memory()
    needed = starting * _MEGABYTES * 2**20
    if free < needed:
        raise EvenkeelError(
            f"{starting} VMs need {needed / 1e9:.1f} GB of memory, and {where} has {free / 1e9:.1f} GB free: choose "
            "fewer BACKENDS."
        )


def variables(lab: Lab) -> dict[str, object]:
    """Return what the inventory says of these hosts: who reaches them, how power is cut, and how slow they are."""
    folder = shlex.quote(str(lab.state / "vm"))
    return {
        # Debian's user-mode Linux has nf_tables without the protocols.
        "firewall": not any("linux.uml" in (each / "power-on").read_text() for each in _folders(lab)),
        # This machine, through its loopback ports too.
        "admin_networks": [lab.gateway, *(_forwarder_address(lab, host) for host in lab.hosts)],
        "chaos_power_off": f"{folder}/{{{{ chaos_host }}}}/power-off",
        "chaos_power_on": f"{folder}/{{{{ chaos_host }}}}/power-on",
        # A process takes this kernel 20 ms to start, and several hosts share a core.
        "ansible_ssh_timeout": 60,
    }


def _folders(lab: Lab) -> list[Path]:
    return sorted((lab.state / "vm").glob("*/"))


def _folder(lab: Lab, host: Host) -> Path:
    return lab.state / "vm" / host.name


def tap(host: Host) -> str:
    """Return the name of a host's network device on this machine: at most 15 characters, one for each address."""
    return "ek" + "".join(f"{int(part):02x}" for part in host.address.split("."))


def mac(host: Host) -> str:
    """Return the hardware address of a host's network device."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in host.address.split("."))


def _ensure_tap(device: str, bridge: str) -> None:
    # What this kernel leaves to its network card, nobody does on a tap.
    script = (
        f"[ -e /sys/class/net/{device} ] || ip tuntap add dev {device} mode tap user {os.getuid()} && "
        f"ip link set {device} master {bridge} up && ethtool --offload {device} tx off >/dev/null"
    )
    run(as_root(["sh", "-c", script]))


def _write_seed(lab: Lab, host: Host, public_key: str, gateway: str) -> None:
    """Write what cloud-init is told at the first boot."""
    folder = _folder(lab, host)
    key = folder / "ssh_host_ed25519_key"
    if not key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)])
    user = {"name": "ops", "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [public_key]}
    keys = {"ed25519_private": key.read_text(), "ed25519_public": key.with_suffix(".pub").read_text()}
    resolvers = [line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if "nameserver" in line]
    ethernet = {
        "match": {"macaddress": mac(host)},
        "set-name": "eth0",
        "addresses": [f"{host.address}/{lab.subnet.prefixlen}"],
        "routes": [{"to": "default", "via": gateway}],
        "nameservers": {"addresses": resolvers},
    }
    files = {
        "user-data": "#cloud-config\n" + yaml.safe_dump({"users": [user], "ssh_keys": keys}),
        "meta-data": yaml.safe_dump({"instance-id": lab.container(host), "local-hostname": host.name}),
        "network-config": yaml.safe_dump({"version": 2, "ethernets": {"eth0": ethernet}}),
    }
    with tempfile.TemporaryDirectory(prefix="evenkeel-") as seed:
        for name, text in files.items():
            (Path(seed) / name).write_text(text)
        paths = [str(Path(seed) / name) for name in files]
        form = ["-quiet", "-volid", "cidata", "-joliet", "-rock"]
        run(["genisoimage", *form, "-output", str(folder / "seed.iso"), *paths])


def write_power(lab: Lab, host: Host, provider: Provider, disk: Path) -> None:
    """Write the commands that start a host on a copy of ``disk`` and cut its power."""
    folder, name = _folder(lab, host), lab.container(host)
    (folder / "tap").write_text(tap(host))
    # Programs take their arguments apart at spaces and commas, which this folder's path may have.
    (folder / "base.disk").unlink(missing_ok=True)
    (folder / "base.disk").symlink_to(disk)
    provider.prepare(folder)
    quoted = shlex.join(provider.command(name, tap(host), mac(host), _MEGABYTES)).replace("'", "'\\''")
    # The last says that all the others are there.
    for state, text in (("off", _POWER_OFF), ("on", _POWER_ON)):
        script = folder / f"power-{state}"
        script.write_text(text.format(folder=shlex.quote(str(folder)), name=shlex.quote(name), command=quoted))
        script.chmod(0o755)
