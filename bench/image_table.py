"""What clients see of other people's frameworks: a table for each image, of roll-outs and faults on a running site.

Use: ``make bench-images`` (on the lab, whose backend it cuts off and reboots), ``ARGS="--only news --runs 3"``. The
images are those of molecule's scenario `services`, and one in Go, whose build takes too long for a test. They take the
place of the guide's API, which is back at the end. Each gets 100 GET and 10 POST per second; ten of those GET and half
of the POST take half a second. nginx knows no such path.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faults
from changes import played, rolled
from described import DESCRIBED, described
from failover_table import VICTIM, Event, asked, measured
from scenario import PROJECT, Scenario

STOCK: dict[str, Any] = {
    "build": {"folder": "{{ topology_project }}/molecule/services/images/go"},
    "version": "1.0",
    "port": 8080,
    "hosts": ["www.example.com"],
    "paths": ["/stock"],
    "ready": {"path": "/stock"},
}
SERVICES = DESCRIBED | {"stock": STOCK}
FRAMEWORKS = {
    "shop": "FastAPI, uvicorn",
    "pictures": "nginx",
    "news": "Node",
    "books": "Django, gunicorn",
    "stock": "Go",
}
MIX = "GET {0}=90,GET {0}/wait/0.5=10,POST {0}=5,POST {0}/wait/0.5=5"
MIXES = {
    "shop": "GET /=90,GET /wait/0.5=10,POST /=5,POST /wait/0.5=5",
    "pictures": "GET /=100,POST /order=10",
}
# Monitoring is left as it is.
SITE = ("site.yml", "--tags", "backend_app,haproxy")


def load(service: str) -> dict[str, object]:
    """Return what run.json says of a service's load."""
    entry = SERVICES[service]
    path = entry.get("paths", [""])[0]
    headers = {"Host": entry["hosts"][0]} if "hosts" in entry else {}
    return {"service": service, "mix": MIXES.get(service, MIX.format(path)), "headers": headers}


@contextmanager
def changed_setting(scenario: Scenario, service: str) -> Iterator[None]:
    """A variable is added to a service's environment."""
    with described(**{"stock": STOCK, service: SERVICES[service] | {"env": {"MODE": "sale"}}}) as inventory:
        played(scenario, *SITE, "-i", inventory)
    yield


def events(service: str, inventory: str) -> list[Event]:
    """Return the rows of a service's table.

    Args:
        service: its name.
        inventory: where all services are described.
    """
    of = ("-i", inventory, "-e", f"service={service}")

    @contextmanager
    def put_back(scenario: Scenario) -> Iterator[None]:
        yield
        played(scenario, "deploy.yml", *of)

    return [
        Event(
            "deploy",
            "deploy of a new version",
            lambda site: [rolled(site, "deploy.yml", *of, "-e", "version=2.0")],
            0,
            max_lateness=3,
        ),
        Event("rollback", "rollback", lambda site: [rolled(site, "rollback.yml", *of)], 0, max_lateness=3),
        Event(
            "setting",
            "a changed setting",
            lambda site: [changed_setting(site, service)],
            0,
            max_lateness=3,
            around=put_back,
        ),
        Event("reboot", "reboot of a backend", lambda site: [faults.reboot(site, VICTIM)], 0, takes_out=True),
        Event("crash", "SIGKILL of the container", lambda site: [faults.crash(site, VICTIM, service)], 5),
        Event("cut", "power cut, 20 s", lambda site: [faults.power_cut(site, VICTIM)], 20, takes_out=True),
    ]


def main() -> None:
    """Put the services on the site, run the events for each, print the tables, and put the guide's API back."""
    arguments = asked(__doc__, list(SERVICES), 1)
    scenario = Scenario.of(arguments.inventory.resolve())
    reports = PROJECT / "reports" / time.strftime("images-%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        with described(stock=STOCK) as inventory:
            played(scenario, *SITE, "-i", inventory)
            for service in arguments.only:
                print(f"\n{FRAMEWORKS[service]}\n", flush=True)
                measured(scenario, events(service, inventory), arguments.runs, reports / service, load(service))
    finally:
        played(scenario, *SITE, "-e", "remove=yes")


if __name__ == "__main__":
    main()
