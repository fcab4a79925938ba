"""The lab's issuer of certificates (``make lab TLS=yes``): what Let's Encrypt is for a site outside."""

from __future__ import annotations

import time
from pathlib import Path

import requests

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images
from evenkeel.lab.authority import Authority
from evenkeel.lab.engine import docker, succeeds
from evenkeel.lab.hosts import remove
from evenkeel.lab.settings import PROJECT, Lab
from evenkeel.lab.system import say
from evenkeel.web import session

# The name that the site's certificate is for. Only the issuer has to find it.
SITE = "site.lab.test"
_START_SECONDS = 60


def ensure_issuer(lab: Lab) -> dict[str, object]:
    """Run the issuer and return the role variables that lead there; ``site-ca.pem`` is what the site's clients trust.

    Raises:
        EvenkeelError: the lab has no balancer, or the issuer can't be made.
    """
    balancer = next((host for host in lab.hosts if host.group == "balancers"), None)
    if balancer is None:
        raise EvenkeelError("A lab with TLS needs a host in the group `balancers`.")
    image = images.build("issuer", PROJECT / "lab" / "issuer", images.debian_base())
    name, trusted, roots = container(lab), lab.state / "issuer-ca.pem", lab.state / "site-ca.pem"
    there = succeeds("container", "inspect", name)
    same = there and docker("container", "inspect", "--format", "{{.Config.Image}}", name).strip() == image
    if not (same and trusted.exists()):
        remove(name)
        trusted.unlink(missing_ok=True)
        _make(lab, image, balancer.address, trusted)
    docker("start", name)
    root = _root(docker("port", name, "15000/tcp").split()[0], str(trusted), name)
    # It has another one after each start, and what it gave before is still good.
    with roots.open("a+") as file:
        file.seek(0)
        if root not in file.read():
            file.write(root)
    say(f"an issuer of certificates is at {lab.issuer_address}, for {SITE}")
    return {
        "acme_directory": f"https://{lab.issuer_address}:14000/dir",
        "acme_ca_file": str(trusted),
        "acme_email": f"admin@{SITE}",
        "acme_accept_tos": True,
        # Services of one's own have hosts and certificates of their own.
        "backend_app_hosts": f"{{{{ [] if site_services | default({{}}) else ['{SITE}'] }}}}",
        "backend_app_tls_automatic": "{{ not site_services | default({}) }}",
        # This machine trusts the issuer no more than anybody else does.
        "chaos_verify": False,
    }


def container(lab: Lab) -> str:
    """Return the name of a lab's issuer."""
    return f"{lab.prefix}-issuer"


def _make(lab: Lab, image: str, balancer: str, trusted: Path) -> None:
    """Make the issuer's container, which finds the site at ``balancer``; ``trusted`` vouches for it then."""
    docker(
        *("create", f"--name={container(lab)}", f"--network={lab.prefix}", f"--ip={lab.issuer_address}"),
        *(f"--add-host={SITE}:{balancer}", "--publish=127.0.0.1::15000", "--restart=unless-stopped", image),
    )
    lab.state.mkdir(parents=True, exist_ok=True)
    authority, own = Authority(), lab.state / "issuer.pem"
    own.touch(mode=0o600)
    own.write_text(authority.pem(lab.issuer_address, "127.0.0.1"))
    docker("cp", str(own), f"{container(lab)}:/etc/pebble/pebble.pem")
    # At last: without it, it is made anew.
    trusted.write_text(authority.root)


def _root(outside: str, trusted: str, name: str) -> str:
    """Return the root of the certificates that are issued, as PEM; waits until the issuer answers."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            answer = session().get(f"https://{outside}/roots/0", verify=trusted, timeout=5)
            answer.raise_for_status()
            return answer.text
        except requests.RequestException as error:
            if time.monotonic() > deadline:
                raise EvenkeelError(f"The issuer {name} does not answer ({error}): see docker logs {name}.") from None
            time.sleep(0.2)
