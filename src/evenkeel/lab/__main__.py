"""The lab's commands: ``python -m evenkeel.lab up`` and ``down`` (``make lab``, ``make lab-down``), and ``engine``."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evenkeel.errors import EvenkeelError
from evenkeel.lab import engine, hosts, images, inventory, issuer, mirror
from evenkeel.lab.kinds import DEFAULT_KIND, KINDS
from evenkeel.lab.settings import DEFAULT_NAME, PROJECT, Lab, host_list, parse_hosts, parse_subnet, site_names
from evenkeel.lab.system import install, say


def up(lab: Lab, base: str, kind: str, *, tls: bool) -> None:
    """Bring the lab's hosts up and write its inventory; what is up already is kept.

    Args:
        lab: the lab.
        base: the image or distribution that was asked for; empty for the kind's own.
        kind: one of KINDS.
        tls: whether with an issuer of certificates, and the site by TLS.

    Raises:
        EvenkeelError: something is missing that the user must mend.
    """
    hosts_of_kind = KINDS[kind]
    engine.ensure_engine()
    there = next((name for name, each in KINDS.items() if each.exist(lab)), kind)
    if there != kind:
        raise EvenkeelError(f"The lab `{lab.name}` is there with KIND={there}: say that, or run make lab-down first.")
    new = len(lab.hosts) - len(hosts.existing(lab))
    engine.check_disk(new)
    # A VM has a kernel of its own.
    if kind == "container":
        engine.check_instances(new)
    install("ssh-keygen", "openssh-client")
    install("ip", "iproute2")
    chosen = hosts_of_kind.choose_base(base)
    hosts.ensure_network(lab)
    hosts_of_kind.ensure_hosts(lab, chosen)
    variables = hosts_of_kind.variables(lab) | mirror.ensure_mirror(lab, chosen, images.host_image(chosen))
    if tls:
        variables |= issuer.ensure_issuer(lab)
    else:
        hosts.remove(issuer.container(lab))
    hosts_of_kind.wait_for_hosts(lab)
    lab.inventory.parent.mkdir(parents=True, exist_ok=True)
    lab.inventory.write_text(inventory.render(lab, variables))
    say(f"{len(lab.hosts)} hosts are up; their inventory is {lab.inventory.relative_to(PROJECT)}")


def down(lab: Lab) -> None:
    """Remove the lab's hosts with all that they wrote, its network, its keys and its inventory."""
    for kind in KINDS.values():
        kind.remove_hosts(lab)
    if engine.answers():
        hosts.remove(mirror.container(lab))
        hosts.remove(issuer.container(lab))
        if engine.succeeds("network", "inspect", lab.prefix):
            engine.docker("network", "rm", lab.prefix)
    else:
        say("no Docker engine answers, so no container runs; only the files are removed")
    shutil.rmtree(lab.state, ignore_errors=True)
    lab.inventory.unlink(missing_ok=True)
    say(f"{lab.prefix} is gone; images and the engine stay")


@contextmanager
def _lock(lab: Lab, *, wait: bool) -> Iterator[None]:
    """Keep a second command off the same lab, or let it wait; the lock ends with the process, however that ends."""
    lab.state.parent.mkdir(exist_ok=True)
    with (lab.state.parent / f"{lab.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise EvenkeelError(
                f"Another command is working on the lab `{lab.name}`: wait until it has ended."
            ) from None
        yield


def _published(arguments: argparse.Namespace) -> dict[str, dict[int, int]]:
    if not arguments.publish:
        return {}
    site, tls, stats, prometheus, grafana = arguments.publish
    return {"balancer": {site: 80, tls: 443, stats: 8404, prometheus: 9090, grafana: 3000}}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evenkeel.lab", description=__doc__)
    parser.add_argument("command", choices=["engine", "up", "down"])
    parser.add_argument("--kind", choices=sorted(KINDS), default=DEFAULT_KIND, help="what the hosts are")
    parser.add_argument("--name", default=DEFAULT_NAME, help="several labs run side by side under different names")
    parser.add_argument("--backends", type=int, default=3, help="backend-1 to backend-N beside the balancer")
    parser.add_argument("--hosts", default="", metavar="NAME:GROUP,…", help="these hosts instead of a whole site")
    parser.add_argument("--subnet", default="10.213.77.0/24", help="the network of the hosts")
    parser.add_argument("--ssh-port", type=int, default=2200, help="the first host's SSH port; the others follow")
    parser.add_argument(
        *("--publish",),
        nargs=5,
        type=int,
        metavar=("SITE", "TLS", "STATS", "PROMETHEUS", "GRAFANA"),
        help="the balancer's ports",
    )
    parser.add_argument("--base", default="", help=f"the image to build hosts on ({images.DEFAULT_BASE})")
    parser.add_argument("--tls", action="store_true", help="an issuer of certificates too, and the site by TLS")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = _parse(argv)
    try:
        names = parse_hosts(arguments.hosts) or site_names(arguments.backends)
        subnet = parse_subnet(arguments.subnet)
        hosts_ = host_list(names, subnet, arguments.ssh_port, _published(arguments), ipv6=hosts.IPV6.exists())
        lab = Lab(arguments.name, subnet, hosts_)
        # All labs share one engine: who only wants that there waits until another has started it.
        with _lock(lab, wait=arguments.command == "engine"):
            if arguments.command == "engine":
                engine.ensure_engine()
            elif arguments.command == "up":
                up(lab, arguments.base, arguments.kind, tls=arguments.tls)
            else:
                down(lab)
    except EvenkeelError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
