"""The images a lab is made of: the base, the hosts' image on it, and the mirror's."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from evenkeel.errors import EvenkeelError
from evenkeel.lab.engine import docker, succeeds
from evenkeel.lab.settings import PROJECT
from evenkeel.lab.system import as_root, install, run, say

DEFAULT_BASE = "ubuntu:24.04"
DEBIAN_BASE = "evenkeel/debian:13-slim"
_DEBIAN_SUITE = "trixie"
_SLIM = [
    f"--dpkgopt={PROJECT}/lab/debian/dpkg.cfg",
    # Before apt is told to keep no cache: it would not look for one any more.
    '--customize-hook=chroot "$1" apt-get clean',
    f"--customize-hook=copy-in {shlex.quote(f'{PROJECT}/lab/debian/docker-clean')} /etc/apt/apt.conf.d",
]


def base_image(wanted: str) -> str:
    """Return an image to build hosts on: ``wanted``, pulled if need be, or Debian 13 made from the archive.

    Args:
        wanted: an image reference; empty means the default, which alone may be replaced by the fallback.

    Raises:
        EvenkeelError: ``wanted`` was asked for by name and can't be had, or the fallback can't be made.
    """
    base = wanted or DEFAULT_BASE
    if succeeds("image", "inspect", base):
        return base
    try:
        docker("pull", "--quiet", base)
    except EvenkeelError as error:
        if wanted:
            raise EvenkeelError(
                f"LAB_BASE={wanted} can't be pulled: choose an image this machine can reach.\n{error}"
            ) from None
        say(f"{base} can't be pulled here: the hosts run Debian 13, made from the archive, instead")
        return debian_base()
    return base


def host_image(base: str) -> str:
    """Build the hosts' image on ``base``, unless the same one exists, and return its tag."""
    return build("host", PROJECT / "lab" / "host", base)


def build(name: str, context: Path, base: str, prepare: Callable[[], None] | None = None) -> str:
    """Build ``evenkeel/<name>``, unless the same one exists, and return its tag.

    Args:
        name: the image's name.
        context: the folder with its Dockerfile; the tag is a hash of its files and of the base.
        base: the image it is built on.
        prepare: called before a build to add what is expensive to get and follows from the files that are there.
    """
    digest = hashlib.sha256(docker("image", "inspect", "--format", "{{.Id}}", base).encode())
    for file in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(context)}\0{file.stat().st_mode & 0o111:o}\0".encode())
        digest.update(file.read_bytes())
    tag = f"evenkeel/{name}:{digest.hexdigest()[:12]}"
    if not succeeds("image", "inspect", tag):
        say(f"building the image {tag} on {base}")
        if prepare:
            prepare()
        docker("build", "--build-arg", f"BASE={base}", "--tag", tag, str(context), failure=f"Building {tag} failed")
    return tag


def debian_base() -> str:
    """Make a Debian 13 image as small as Debian's own from the archive, unless it is there.

    Raises:
        EvenkeelError: it can't be made.
    """
    if succeeds("image", "inspect", DEBIAN_BASE):
        return DEBIAN_BASE
    install("mmdebstrap", "mmdebstrap")
    archive = _debian_archive()
    say(f"making {DEBIAN_BASE} from {archive} (about half a minute)")
    with tempfile.TemporaryDirectory(prefix="evenkeel-") as folder:
        tarball = f"{folder}/rootfs.tar"
        command = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", *_apt_options(), *_SLIM]
        run(as_root([*command, _DEBIAN_SUITE, tarball, archive]), failure="Making the Debian rootfs failed")
        run(as_root(["chmod", "0644", tarball]))
        docker("import", tarball, DEBIAN_BASE)
    return DEBIAN_BASE


def _debian_archive() -> str:
    """Return the archive this machine itself uses, so that a site's mirror or proxy serves the lab too."""
    wanted = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)\t$(CREATED_BY)"
    lines = run(["apt-get", "indextargets", "--format", wanted]).splitlines()
    for uri, origin, label, kind in (line.split("\t") for line in lines):
        if (origin, label, kind) == ("Debian", "Debian", "Packages"):
            return uri
    raise EvenkeelError(
        f"{DEFAULT_BASE} can't be pulled and apt on this machine knows no Debian archive to make a base from: "
        "set LAB_BASE to an Ubuntu or Debian image that is here (docker images)."
    )


def _apt_options() -> list[str]:
    """Return mmdebstrap's arguments for how this machine's apt reaches an archive (a proxy, a snapshot)."""
    wanted = ("Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::http::Proxy", "Acquire::https::Proxy")
    lines = run(["apt-config", "dump", *wanted]).splitlines()
    return [f"--aptopt={line}" for line in lines if not line.endswith('"";')]


def release(image: str) -> tuple[str, str]:
    """Return an image's distribution and code name, such as ``("debian", "trixie")``."""
    command = '. /etc/os-release && printf \'["%s", "%s"]\' "$ID" "$VERSION_CODENAME"'
    distribution, codename = json.loads(docker("run", "--rm", "--entrypoint", "sh", image, "-c", command))
    return str(distribution), str(codename)
