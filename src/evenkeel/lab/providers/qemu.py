"""A distribution's cloud image under qemu with KVM: the kernel and the boot that most operators have."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import requests

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images
from evenkeel.lab.system import install, run, say

# The image and its list of checksums, by distribution.
_SOURCES = {
    "ubuntu": ("https://cloud-images.ubuntu.com/{codename}/current/{codename}-server-cloudimg-amd64.img", "SHA256SUMS"),
    "debian": (
        "https://cloud.debian.org/images/cloud/{codename}/latest/debian-{number}-genericcloud-amd64.qcow2",
        "SHA512SUMS",
    ),
}
_DEBIAN = {"bookworm": 12, "trixie": 13}
_ANSWER_SECONDS = 8
_DISK = "8G"
ACCELERATOR = ("-accel", "kvm", "-cpu", "host")


def works(device: Path = Path("/dev/kvm"), processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this machine runs VMs: the device alone does not say so."""
    flags = processor.read_text().split()
    return os.access(device, os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def source(distribution: str, codename: str) -> tuple[str, str]:
    """Return the URLs of a release's cloud image and of its checksums; raises EvenkeelError where none is known."""
    if distribution not in _SOURCES or (distribution == "debian" and codename not in _DEBIAN):
        raise EvenkeelError(
            f"LAB_BASE is {distribution} {codename}, and KIND=vm knows no cloud image of it: choose ubuntu:24.04, "
            "ubuntu:22.04, debian:13 or debian:12."
        )
    form, sums = _SOURCES[distribution]
    url = form.format(codename=codename, number=_DEBIAN.get(codename))
    return url, f"{url.rpartition('/')[0]}/{sums}"


def there(folder: Path, url: str) -> bool:
    """Return whether an image is in ``folder`` or can be downloaded."""
    if (folder / url.rpartition("/")[2]).exists():
        return True
    try:
        return requests.head(url, timeout=_ANSWER_SECONDS, allow_redirects=True).ok
    except requests.RequestException:
        return False


def ensure_tools() -> None:
    """Install what is missing; raises EvenkeelError."""
    install("qemu-system-x86_64", "qemu-system-x86")
    install("qemu-img", "qemu-utils")


def memory() -> tuple[str, int]:
    """Return where the VMs' memory is taken from, and how many bytes are free there."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return "this machine", next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")


def image(folder: Path, url: str, sums: str) -> Path:
    """Download a cloud image and check it against its checksum, unless it is there.

    Args:
        folder: where images are kept.
        url: of the image.
        sums: of the list of checksums, by file name; SHA-256 or SHA-512.

    Raises:
        EvenkeelError: it can't be had, or is not what the list says.
    """
    name = url.rpartition("/")[2]
    path = folder / name
    if path.exists():
        return path
    new = path.with_suffix(".new")
    say(f"downloading {url}")
    try:
        listed = requests.get(sums, timeout=_ANSWER_SECONDS)
        listed.raise_for_status()
        rows = (line.split() for line in listed.text.splitlines())
        wanted = next((row[0] for row in rows if len(row) == 2 and row[1].lstrip("*") == name), "")
        digest = hashlib.new("sha256" if len(wanted) == 64 else "sha512")
        with requests.get(url, timeout=_ANSWER_SECONDS, stream=True) as answer, new.open("wb") as file:
            answer.raise_for_status()
            for part in answer.iter_content(1 << 20):
                digest.update(part)
                file.write(part)
    except requests.RequestException as error:
        new.unlink(missing_ok=True)
        raise EvenkeelError(f"{url} can't be downloaded: {error}") from None
    if digest.hexdigest() != wanted:
        new.unlink()
        raise EvenkeelError(f"{url} is not what {sums} says: its checksum is {digest.hexdigest()}. Try again.")
    new.rename(path)
    return path


def disk(folder: Path, base: str) -> Path:
    """Return the disk that all hosts on ``base`` begin with, its release's cloud image; raises EvenkeelError."""
    return image(folder, *source(*images.release(base)))


def prepare(folder: Path) -> None:
    """Make in a host's folder its own disk over ``base.disk``."""
    form = ["-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.disk"]
    run(["qemu-img", "create", *form, "disk.qcow2", _DISK], cwd=folder)


def command(name: str, tap: str, mac: str, megabytes: int) -> list[str]:
    """Return what starts a host in its folder; arguments as in :meth:`evenkeel.lab.kinds.vm.Provider.command`."""
    return [
        "qemu-system-x86_64",
        *("-name", name),
        *ACCELERATOR,
        *("-m", f"{megabytes}M"),
        *("-nodefaults", "-display", "none", "-serial", "stdio"),
        *("-drive", "file=disk.qcow2,format=qcow2,if=virtio"),
        *("-drive", "file=seed.iso,format=raw,if=virtio,readonly=on"),
        *("-netdev", f"tap,id=network,ifname={tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=network,mac={mac}"),
        *("-device", "virtio-rng-pci"),
    ]
