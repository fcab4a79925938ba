"""What stands in for upstream where upstream does not answer: the same layout at another address.

Each component says how to ask upstream and which role variables lead to the mirror instead. The roles themselves know
nothing of it; a site without internet access sets the same variables in its own inventory.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images
from evenkeel.lab.engine import docker, succeeds
from evenkeel.lab.settings import PROJECT, Lab
from evenkeel.lab.system import run, say
from evenkeel.web import session

_ROLES = PROJECT / "roles"
_GUIDE = PROJECT / "files" / "guide_api"
_PROBE_SECONDS = 8
_START_SECONDS = 30


@dataclass(frozen=True)
class Source:
    """A running mirror, as this machine and the lab's hosts reach it.

    Attributes:
        outside: its URL from this machine.
        inside: its URL from the lab's hosts.
        distribution: the hosts' distribution, such as ``debian``.
        codename: the hosts' release, such as ``trixie``.
    """

    outside: str
    inside: str
    distribution: str
    codename: str

    def read(self, path: str) -> bytes:
        """Return a file of the mirror; raises requests.RequestException where there is none."""
        answer = session().get(f"{self.outside}/{path}", timeout=10)
        answer.raise_for_status()
        return answer.content


@dataclass(frozen=True)
class Image:
    """An image of Docker Hub that the mirror's registry offers under its real name.

    Attributes:
        folder: the folder of ``lab/mirror`` with its Dockerfile.
        role: the role that runs it or builds on it.
        variable: the role's variable whose default is its reference.
    """

    folder: str
    role: str
    variable: str

    @property
    def reference(self) -> str:
        """Its name at Docker Hub, such as ``prom/pushgateway:v1.11.4``."""
        defaults = yaml.safe_load((_ROLES / self.role / "defaults" / "main.yml").read_text())
        return str(defaults[self.variable]).removeprefix("docker.io/")


@dataclass(frozen=True)
class Component:
    """One upstream source.

    Attributes:
        name: what the user reads.
        probe: the URL that tells whether upstream answers, made from distribution and code name.
        variables: the role variables that lead to the mirror instead.
        images: what the mirror's registry then has to offer.
        remark: what the user should know of the mirror's version, if anything.
    """

    name: str
    probe: Callable[[str, str], str]
    variables: Callable[[Source], dict[str, object]]
    images: tuple[Image, ...] = ()
    remark: str = ""


def _docker_variables(source: Source) -> dict[str, object]:
    root = f"download.docker.com/linux/{source.distribution}"
    packages = source.read(f"{root}/dists/{source.codename}/stable/binary-amd64/Packages").decode()
    return {
        "docker_apt_url": f"{source.inside}/{root}",
        "docker_apt_key_checksum": f"sha256:{hashlib.sha256(source.read(f'{root}/gpg')).hexdigest()}",
        "docker_version": package_version(packages, "docker-ce"),
        "docker_containerd_version": package_version(packages, "containerd.io"),
        "docker_buildx_version": package_version(packages, "docker-buildx-plugin"),
        "docker_compose_version": package_version(packages, "docker-compose-plugin"),
    }


def _prometheus_variables(source: Source) -> dict[str, object]:
    root = "github.com/prometheus/prometheus/releases/download"
    version = release_version(source.read(f"{root}/").decode())
    sums = source.read(f"{root}/v{version}/sha256sums.txt").decode()
    return {
        "prometheus_release_url": f"{source.inside}/{root}",
        "prometheus_version": version,
        "prometheus_checksums": release_checksums(sums),
    }


def _grafana_variables(source: Source) -> dict[str, object]:
    root = "apt.grafana.com"
    packages = source.read(f"{root}/dists/stable/main/binary-amd64/Packages").decode()
    return {
        "grafana_apt_url": f"{source.inside}/{root}",
        "grafana_apt_key_checksum": f"sha256:{hashlib.sha256(source.read(f'{root}/gpg-full.key')).hexdigest()}",
        "grafana_version": package_version(packages, "grafana"),
    }


COMPONENTS = (
    Component(
        "Docker's apt repository",
        lambda distribution, codename: f"https://download.docker.com/linux/{distribution}/dists/{codename}/InRelease",
        _docker_variables,
    ),
    Component(
        "Docker Hub",
        lambda _distribution, _codename: "https://registry-1.docker.io/v2/",
        lambda source: {"docker_registry_mirrors": [source.inside]},
        (
            Image("python", "backend_app", "backend_app_base_image"),
            Image("pushgateway", "pushgateway", "pushgateway_image"),
        ),
    ),
    Component(
        "Python wheels",
        lambda _distribution, _codename: f"{package_index()}/flask/",
        lambda source: {"backend_app_pip_index_url": f"{source.inside}/simple/"},
    ),
    Component(
        "Prometheus' releases",
        lambda _distribution, _codename: "https://github.com/prometheus/prometheus/releases/latest",
        _prometheus_variables,
    ),
    Component(
        "Grafana's apt repository",
        lambda _distribution, _codename: "https://apt.grafana.com/dists/stable/InRelease",
        _grafana_variables,
        remark="Grafana is a stand-in here: it tests the installation and draws nothing",
    ),
)


def package_index() -> str:
    """Return the package index that pip asks unless it is told of another, as its help says; raises EvenkeelError."""
    # In lines that cut no address.
    wide = ["env", "COLUMNS=200"]
    said = " ".join(run([*wide, sys.executable, "-m", "pip", "--isolated", "download", "--help"]).split())
    found = re.search(r"--index-url <url> .*?\(default (https://\S+?)\)", said)
    if not found:
        raise EvenkeelError("pip does not say which package index it asks: its help has changed.")
    return found[1]


def package_version(packages: str, name: str) -> str:
    """Return the upstream version (no epoch, no revision) of a package in an apt ``Packages`` file.

    Raises:
        EvenkeelError: the package is not there.
    """
    found = re.search(rf"^Package: {re.escape(name)}\n(?:.+\n)*?Version: (?:\d+:)?([^-\n]+)", packages, re.MULTILINE)
    if not found:
        raise EvenkeelError(f"The mirror has no package {name}: run make lab-down and make lab again.")
    return found[1]


def release_version(listing: str) -> str:
    """Return the version of the only release (a folder ``v1.2.3/``) in a web server's folder listing.

    Raises:
        EvenkeelError: there is none.
    """
    found = re.search(r'href="v(\d[\d.]*)/"', listing)
    if not found:
        raise EvenkeelError("The mirror has no release of Prometheus: run make lab-down and make lab again.")
    return found[1]


def release_checksums(sums: str) -> dict[str, str]:
    """Return a release's sha256 by architecture, such as ``{"amd64": "…"}``, from its ``sha256sums.txt``."""
    return {arch: digest for digest, arch in re.findall(r"^(\w{64})\s+\S+\.linux-(\w+)\.tar\.gz$", sums, re.MULTILINE)}


def ensure_mirror(lab: Lab, base: str, host_image: str) -> dict[str, object]:
    """Find out what upstream answers, serve the rest, and return the role variables that lead there.

    Args:
        lab: the lab, whose network exists.
        base: the image the hosts are built on.
        host_image: the hosts' image; the question is asked from where the roles will ask it.

    Raises:
        EvenkeelError: a mirror is needed and can't be made.
    """
    distribution, codename = images.release(base)
    answers = _probe(host_image, [component.probe(distribution, codename) for component in COMPONENTS])
    missing = [component for component, answered in zip(COMPONENTS, answers, strict=True) if not answered]
    for component in COMPONENTS:
        say(f"{component.name}: {'the mirror, since upstream does not answer' if component in missing else 'upstream'}")
        if component in missing and component.remark:
            say(component.remark)
    if not missing:
        return {}
    outside = _serve(lab, _mirror_image(base))
    source = Source(f"http://{outside}", f"http://{lab.mirror_address}", distribution, codename)
    variables: dict[str, object] = {}
    for component in missing:
        variables |= component.variables(source)
        for image in component.images:
            _push(outside, image)
    return variables


def container(lab: Lab) -> str:
    """Return the name of a lab's mirror."""
    return f"{lab.prefix}-mirror"


def _probe(image: str, urls: list[str]) -> list[bool]:
    """Ask each URL from inside a host; any HTTP answer counts (a registry greets strangers with 401)."""
    script = (
        f'for url; do curl --silent --show-error --output /dev/null --max-time {_PROBE_SECONDS} "$url" 2>/dev/null '
        "&& echo yes || echo no; done"
    )
    return [line == "yes" for line in docker("run", "--rm", image, "sh", "-c", script, "probe", *urls).split()]


def _mirror_image(base: str) -> str:
    with tempfile.TemporaryDirectory(prefix="evenkeel-") as folder:
        context = Path(folder) / "mirror"
        # What Python leaves beside its files would make another image of the same content.
        shutil.copytree(PROJECT / "lab" / "mirror", context, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(_GUIDE / "requirements.txt", context)
        return images.build("mirror", context, base, lambda: _download_wheels(context))


def _download_wheels(context: Path) -> None:
    """Fill ``simple/`` with a folder a project, which a web server's folder listing turns into an index for pip."""
    index, wheels, requirements = context / "simple", context / "wheels", context / "requirements.txt"
    # For the image they are installed in, not for the Python that runs here.
    target = ["--python-version", "3.13", "--implementation", "cp", "--platform", "manylinux2014_x86_64"]
    target += ["--platform", "manylinux_2_28_x86_64"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-deps",
    ]
    command += [*target, "--dest", str(wheels), "--requirement", str(requirements)]
    run(command, failure="Downloading the application's wheels for the mirror failed")
    for wheel in wheels.iterdir():
        # The index's normal form of a project's name.
        project = index / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        project.mkdir(parents=True, exist_ok=True)
        wheel.rename(project / wheel.name)
    wheels.rmdir()


def _serve(lab: Lab, image: str) -> str:
    """Run the mirror in the lab's network and return ``host:port`` as this machine reaches it."""
    name = container(lab)
    present = succeeds("container", "inspect", name)
    if present and docker("container", "inspect", "--format", "{{.Config.Image}}", name).strip() != image:
        docker("rm", "--force", "--volumes", name)
        present = False
    if present:
        docker("start", name)
    else:
        docker(
            *("run", "--detach", f"--name={name}", f"--network={lab.prefix}", f"--ip={lab.mirror_address}"),
            *("--publish=127.0.0.1::80", "--restart=unless-stopped", image),
        )
    outside = docker("port", name, "80/tcp").split()[0]
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            session().get(f"http://{outside}/v2/", timeout=2).raise_for_status()
            return outside
        except requests.RequestException as error:
            if time.monotonic() > deadline:
                raise EvenkeelError(f"The mirror {name} does not answer ({error}): see docker logs {name}.") from None
            time.sleep(0.2)


def _push(outside: str, image: Image) -> None:
    """Build ``image`` from its folder and offer it under its real name."""
    built = images.build(f"mirror-{image.folder}", PROJECT / "lab" / "mirror" / image.folder, images.debian_base())
    target = f"{outside}/{image.reference}"
    docker("tag", built, target)
    docker("push", "--quiet", target, failure=f"Putting {image.reference} into the mirror failed")
    docker("rmi", target)
