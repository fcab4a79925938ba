"""Debian 13 as user-mode Linux: a kernel of its own in an ordinary process. Needs no KVM and no cloud's image."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images
from evenkeel.lab.engine import docker
from evenkeel.lab.settings import PROJECT
from evenkeel.lab.system import as_root, install, run, say

_MODULES = Path("/usr/lib/uml/modules")
_DISK = "8G"
_PROCESSOR = Path("/proc/cpuinfo")
_WIDE_REGISTERS = PROJECT / "lab" / "vm" / "wide_registers.c"


def ensure_tools() -> None:
    """Install what is missing; raises EvenkeelError."""
    install("linux.uml", "user-mode-linux")
    install("mke2fs", "e2fsprogs")
    if _has_wide_registers():
        install("cc", "gcc", "libc6-dev")


def _has_wide_registers() -> bool:
    """Return whether this processor has registers that this kernel knows nothing of: without help it panics then."""
    return "amx_tile" in _PROCESSOR.read_text().split()


def memory() -> tuple[str, int]:
    """Return where the VMs' memory is taken from, and how many bytes are free there."""
    return "/dev/shm", shutil.disk_usage("/dev/shm").free


def disk(folder: Path, base: str) -> Path:
    """Make the disk that all hosts on ``base`` begin with, unless it is there, and return its path in ``folder``."""
    tag = images.build("vm", PROJECT / "lab" / "vm", base)
    path = folder / f"{tag.partition(':')[2]}.ext4"
    if path.exists():
        return path
    modules = max(_MODULES.iterdir(), default=None)
    if modules is None:
        raise EvenkeelError(f"There are no modules in {_MODULES}: install user-mode-linux again.")
    say(f"making the hosts' disk {path}")
    container = docker("create", tag, "true").strip()
    try:
        with tempfile.TemporaryDirectory(prefix="evenkeel-") as work:
            root, new = f"{work}/root", path.with_suffix(".new")
            script = "\n".join(
                (
                    f"set -e; mkdir {root}; tar -x -C {root} -f {work}/root.tar; rm -f {root}/.dockerenv",
                    # The engine gives its containers another.
                    f"ln -sf ../run/systemd/resolve/stub-resolv.conf {root}/etc/resolv.conf",
                    f"mkdir -p {root}/usr/lib/modules; cp -r {modules} {root}/usr/lib/modules/",
                    f"mke2fs -q -t ext4 -L root -d {root} {shlex.quote(str(new))} {_DISK}; rm -r {root}",
                )
            )
            docker("export", "--output", f"{work}/root.tar", container)
            run(as_root(["sh", "-c", script]), failure="Making the hosts' disk failed")
            new.rename(path)
    finally:
        docker("rm", container)
    return path


def prepare(folder: Path) -> None:
    """Put beside a host what its kernel needs here; a disk of its own it makes itself, over ``base.disk``."""
    if _has_wide_registers():
        library = str(folder / "wide_registers.so")
        run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", library, str(_WIDE_REGISTERS)],
            failure=f"Building {_WIDE_REGISTERS.name} failed",
        )


def command(name: str, tap: str, mac: str, megabytes: int) -> list[str]:
    """Return what starts a host in its folder; arguments as in :meth:`evenkeel.lab.kinds.vm.Provider.command`."""
    return [
        # A reboot is this program starting itself again, with this environment.
        *(["env", "LD_PRELOAD=./wide_registers.so"] if _has_wide_registers() else []),
        shutil.which("linux.uml") or "/usr/bin/linux.uml",
        f"umid={name}",
        "uml_dir=.",
        f"mem={megabytes}M",
        "ubd0=disk.cow,base.disk",
        "ubd1r=seed.iso",
        "root=/dev/ubda",
        "rw",
        f"eth0=tuntap,{tap},{mac}",
        "con0=null,fd:1",
        "con=null",
        "ssl=null",
    ]
