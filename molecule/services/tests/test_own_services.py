"""Services that were not written for this project: told apart, rolled out one by one, and nothing of them lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kills
import pytest
import requests
from changes import BALANCER, deploys_log, expect, played, rolled
from described import SETTINGS, described, ids, run
from faults import crash, reboot
from scenario import PROJECT, Scenario, wait_until
from under_load import BUSY, Outcome, states, under_load, wait_until_all_up

MIX = "GET /=90,GET /wait/0.5=10,POST /=5,POST /wait/0.5=5"
PICTURES = {"Host": "pictures.example.com"}
SHOP_LOAD = ("--mix", MIX, *BUSY)
WWW = {"Host": "www.example.com"}
# Three frameworks at once: what is neither news nor books is the shop's.
FRAMEWORKS = ("shop", "news", "books")
WWW_MIX = (
    "GET /=30,GET /wait/0.5=5,GET /news=30,GET /news/wait/0.5=5,GET /books=25,GET /books/wait/0.5=5,"
    "POST /=2,POST /wait/0.5=2,POST /news=1,POST /news/wait/0.5=2,POST /books=1,POST /books/wait/0.5=2"
)
WWW_LOAD = ("--mix", WWW_MIX, "--header", "Host: www.example.com", *BUSY)
MEGABYTE = 1024 * 1024


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses['balancer']}"


def versions(url: str, path: str = "/") -> set[str]:
    """Return the versions that answer at a path: the shop's, or that of another framework."""
    return {requests.get(url + path, headers=WWW, timeout=60).json()["version"].partition("-")[0] for _ in range(8)}


def fails(scenario: Scenario, broken: dict[str, Any], *told: str, service: str = "shop") -> None:
    """A roll-out fails at its first host, is undone, and says why."""
    with described(**{service: broken}) as bad:
        said = played(scenario, "deploy.yml", "-i", bad, "-e", f"service={service}", wanted=2)
    assert "The roll-out failed on backend-1 and was undone: the old version runs everywhere" in said
    assert [sentence for sentence in told if sentence not in said] == [], said


def seat(scenario: Scenario, client: requests.Session, url: str) -> str:
    """Return which backend answers a client, which keeps its cookies."""
    digest = requests.get(f"http://{scenario.addresses['balancer']}:8404/digest", timeout=60).text
    return client.get(url, headers={**WWW, "X-Evenkeel-Load": digest}, timeout=60).headers["X-Backend"]


def seated(scenario: Scenario, url: str, wanted: str) -> requests.Session:
    """Return a client that a sticky service has given a seat at a backend."""
    for _ in range(50):
        client = requests.Session()
        if seat(scenario, client, url) == wanted:
            return client
    pytest.fail(f"none of 50 clients was given to {wanted}")


def logs(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the log settings of the shop's container on each backend."""
    command = "docker inspect --format '{{json .HostConfig.LogConfig}}' backend_shop"
    return [json.loads(scenario.host(name).check_output(command)) for name in scenario.backends]


def questions(scenario: Scenario) -> int:
    """Return how often the shop's containers were asked for /."""
    command = "docker logs backend_shop 2>&1 | grep -c '\"GET / '"
    return sum(int(scenario.host(name).run(command).stdout) for name in scenario.backends)


def nothing_lost(outcome: Outcome) -> None:
    """Fail where a GET failed, or a POST that was not in flight when it happened."""
    assert outcome.summary.valid, outcome
    assert outcome.failed("GET") == [], outcome
    assert outcome.failed_later("POST") == [], outcome
    assert outcome.longest_gap < 1, outcome


def test_services_are_told_apart_by_host_and_path(scenario: Scenario, url: str) -> None:
    assert requests.get(url, timeout=60).json()["version"].startswith("1.0-")
    for host in ("pictures.example.com", "Pictures.Example.COM", "pictures.example.com:80"):
        assert requests.get(url, headers={"Host": host}, timeout=60).text.startswith("nginx 1.0-"), host
    # Whose health is for checks is not for clients, whichever service it is.
    assert requests.get(f"{url}/metrics", headers=PICTURES, timeout=60).status_code == 404
    assert requests.get(f"{url}/readyz", timeout=60).text == "Not found.\n"
    # What a client writes into its Host is a host's name or refused: it can't lead to another service's paths.
    for host in ("*/pictures", "pictures.example.com/x", "pictures.example.com extra"):
        assert requests.get(url, headers={"Host": host}, timeout=60).status_code == 400, host
    # What names host and path beats what names the path alone; the longest path wins; a path ends at a slash.
    more = {
        "shop": {"paths": ["/shop", "/shop/pictures/not"]},
        "pictures": {"hosts": ["pictures.example.com"], "paths": ["/", "/shop/pictures"]},
    }
    with described(**more) as changed:
        played(scenario, "site.yml", "-i", changed, "--limit", "balancer", "--tags", "haproxy")
        try:
            asked = {
                ("", "/shop"): "uvicorn",
                ("", "/shop/x"): "uvicorn",
                ("", "/shopping"): "",
                ("", "/"): "",
                ("pictures.example.com", "/"): "nginx",
                ("pictures.example.com", "/shop"): "nginx",
            }
            for (host, path), server in asked.items():
                answer = requests.get(url + path, headers={"Host": host} if host else {}, timeout=60)
                assert answer.headers.get("Server", "").partition("/")[0] == server, (host, path)
                if not server:
                    assert (answer.status_code, answer.text) == (404, "Not found.\n")
        finally:
            run(scenario, "site.yml", "--limit", "balancer", "--tags", "haproxy")


def test_roll_out_of_one_leaves_the_other_alone(scenario: Scenario, url: str, tmp_path: Path) -> None:
    before = ids(scenario, "pictures")
    for playbook, wanted in ((("deploy.yml", "-e", "version=2.0"), "2.0"), (("rollback.yml",), "1.0")):
        change = rolled(scenario, *playbook, "-i", str(SETTINGS), "-e", "service=shop")
        nothing_lost(under_load(scenario, tmp_path / "shop.gz", change, seconds=1, arguments=SHOP_LOAD))
        expect(versions(url), {wanted})
    assert "deploy service=shop hosts=backend-1,backend-2 from=1.0-" in deploys_log(scenario)[-2]
    assert ids(scenario, "pictures") == before


def test_two_frameworks_change_in_one_roll_out_and_go_back_one_by_one(
    scenario: Scenario, url: str, tmp_path: Path
) -> None:
    # The load is the shop's too, which does not change.
    before = ids(scenario, "shop")

    @contextmanager
    def back() -> Iterator[None]:
        for service in ("news", "books"):
            run(scenario, "rollback.yml", "-e", f"service={service}")
        yield

    with described(news={"version": "2.0"}, books={"version": "2.0"}) as changed:
        deploy = rolled(scenario, "deploy.yml", "-i", changed)
        for change, wanted in ((deploy, "2.0"), (back(), "1.0")):
            nothing_lost(under_load(scenario, tmp_path / "www.gz", change, seconds=1, arguments=WWW_LOAD))
            expect({path: versions(url, path) for path in ("/news", "/books")}, {"/news": {wanted}, "/books": {wanted}})
    assert ids(scenario, "shop") == before


def test_stream_of_events_may_be_silent_for_longer_than_an_answer(url: str) -> None:
    # The service's timeout is 5 s. A POST is not tried again.
    late = requests.post(f"{url}/news/wait/6", headers=WWW, timeout=60)
    assert late.status_code == 504
    assert requests.get(f"{url}/news/events/6", headers=WWW, timeout=60).text == "data: first\n\ndata: second\n\n"


def test_setting_of_one_is_rolled_out_like_a_version(scenario: Scenario, url: str, tmp_path: Path) -> None:
    before = ids(scenario, "pictures")
    log = {"driver": "local", "options": {"max-size": "1m", "max-file": 2}}
    shop = {"env": {"MODE": "sale"}, "host_port": 5001, "ready": {"command": ["true"]}, "log": log}
    changed = ("--tags", "backend_app,haproxy")
    try:
        with described(shop=shop) as other:
            change = rolled(scenario, "site.yml", "-i", other, *changed)
            nothing_lost(under_load(scenario, tmp_path / "shop.gz", change, seconds=1, arguments=SHOP_LOAD))
        assert requests.get(url, timeout=60).json()["mode"] == "sale"
        assert logs(scenario) == [{"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}] * 2
        # The same again, and closed to all: no container is another; clients are refused, the run itself is not.
        rolled_out, asked = ids(scenario, "shop"), questions(scenario)
        with described(shop=shop | {"allow": ["192.0.2.1"]}) as closed:
            played(scenario, "site.yml", "-i", closed, *changed)
        assert ids(scenario, "shop") == rolled_out
        assert questions(scenario) == asked + 1
        assert requests.get(url, timeout=60).status_code == 403
    finally:
        run(scenario, "deploy.yml", "-e", "service=shop")
    # A setting that is gone is gone.
    assert requests.get(url, timeout=60).json()["mode"] == ""
    assert "local" not in [log["Type"] for log in logs(scenario)]
    assert ids(scenario, "pictures") == before


def serving(scenario: Scenario, *arguments: str) -> list[set[str]]:
    """Run a playbook, and return which servers of the shop served meanwhile, at one look after the other."""
    seen = []
    with ThreadPoolExecutor() as threads:
        run_ = threads.submit(played, scenario, *arguments)
        while not run_.done():
            found = states(scenario, "shop").items()
            # Some checks from being DOWN it serves all the same.
            seen.append({name for name, status in found if status.startswith("UP")})
            time.sleep(0.1)
        run_.result()
    return seen


def beside(scenario: Scenario) -> list[str]:
    """Return the ids of the containers that stand in for others, by backend."""
    look = "docker ps --all --quiet --filter name=_next"
    return [scenario.host(name).check_output(look) for name in scenario.backends]


def test_new_container_serves_beside_the_old_one(scenario: Scenario, url: str, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    with described(shop={"surge_port": 5010, "sticky": "seat"}) as changed:
        shop = ("-i", changed, "-e", "service=shop")
        deploy = ("deploy.yml", *shop, "-e", "version=2.0")
        played(scenario, "site.yml", "-i", changed, *BALANCER)

        @contextmanager
        def change() -> Iterator[None]:
            # Killed while the old container is away: the new one serves on, and the next run mends that first.
            assert kills.killed(scenario, deploy, lambda _, name: "replace | Put the former container aside" in name)
            assert [len(each.split()) for each in beside(scenario)] == [1, 0]
            seen.extend(serving(scenario, *deploy))
            yield

        try:
            nothing_lost(under_load(scenario, tmp_path / "shop.gz", change(), seconds=1, arguments=SHOP_LOAD))
            expect(versions(url), {"2.0"})
            # Never fewer than without a roll-out, since others served meanwhile.
            assert min(map(len, seen)) == len(scenario.backends)
            assert {f"{name}_next" for name in scenario.backends} <= set.union(*seen)
            assert beside(scenario) == ["", ""]
            # A version that never gets ready: the old one has not even been stopped.
            before = ids(scenario, "shop")
            broken = {"surge_port": 5010, "port": 5001, "host_port": 5000, "ready": {"seconds": 3}}
            fails(scenario, broken, "It listens on port 5000, and not on 5001 (port).")
            assert ids(scenario, "shop") == before
            # Whom an operator has taken out, nobody stands in for, and whoever had a seat there gets another one.
            guest = seated(scenario, url, "backend-2")
            assert {seat(scenario, guest, url) for _ in range(5)} == {"backend-2"}
            played(scenario, "drain.yml", *shop, "-e", "target=backend-2")
            assert {seat(scenario, guest, url) for _ in range(5)} == {"backend-1"}
            served = set.union(*serving(scenario, "rollback.yml", *shop))
            played(scenario, "ready.yml", *shop, "-e", "target=backend-2")
            assert served == {"backend-1", "backend-1_next"}
            assert {seat(scenario, guest, url) for _ in range(5)} == {"backend-1"}
            expect(versions(url), {"1.0"})
            assert beside(scenario) == ["", ""]
            assert states(scenario, "shop") == {
                name: status for host in scenario.backends for name, status in ((host, "UP"), (f"{host}_next", "MAINT"))
            }
        finally:
            run(scenario, "deploy.yml", "-e", "service=shop")


def test_host_takes_itself_out_before_anything_stops(scenario: Scenario) -> None:
    host = scenario.host("backend-1")
    application = f"curl --silent --fail http://{scenario.addresses['backend-1']}:5000/"
    # As the first thing that a shutdown does.
    host.check_output("systemctl stop backend_app_announce")
    try:
        for service in ("shop", "pictures"):
            wait_until(
                lambda name=service: states(scenario, name)["backend-1"] == "DOWN (agent)",  # type: ignore[misc]
                "the balancer sends it no more requests",
            )
        host.check_output(application)
    finally:
        host.check_output("systemctl start backend_app_announce")
    wait_until_all_up(scenario)


def test_reboot_of_a_host_loses_nothing_of_applications_that_do_not_drain(scenario: Scenario, tmp_path: Path) -> None:
    rebooted = reboot(scenario, "backend-1")
    nothing_lost(under_load(scenario, tmp_path / "www.gz", rebooted, seconds=10, arguments=WWW_LOAD))


def test_killed_containers_lose_what_was_in_flight_and_no_get(scenario: Scenario, tmp_path: Path) -> None:
    killed = crash(scenario, "backend-2", *FRAMEWORKS)
    nothing_lost(under_load(scenario, tmp_path / "www.gz", killed, seconds=5, arguments=WWW_LOAD))


def test_sockets_uploads_and_downloads_outlive_a_reload_and_the_other_services_roll_out(
    scenario: Scenario, url: str
) -> None:
    arguments = ["deploy.yml", "-i", str(SETTINGS), "-e", "service=pictures", "-e", "version=4.0"]
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(scenario.inventory), *arguments]

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * MEGABYTE
            await asyncio.sleep(0.03)

    async def upload(client: aiohttp.ClientSession) -> int:
        async with client.post(f"{url}/upload", data=parts()) as answer:
            return int((await answer.json())["bytes"])

    async def download(client: aiohttp.ClientSession) -> int:
        size = 0
        async with client.get(f"{url}/download/200") as answer:
            async for chunk in answer.content.iter_chunked(MEGABYTE):
                size += len(chunk)
                await asyncio.sleep(0.03)
        return size

    async def clients() -> tuple[int, int, Any]:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}/socket") as socket:
            heard = asyncio.create_task(socket.receive_str())
            moved = [asyncio.create_task(upload(client)), asyncio.create_task(download(client))]
            await asyncio.sleep(1)
            reload = scenario.host("balancer").check_output
            await asyncio.to_thread(reload, "systemctl reload haproxy")
            assert not any(task.done() for task in moved), "they were still on their way"
            deployed = await asyncio.create_subprocess_exec(
                *command, cwd=PROJECT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, stdout=subprocess.DEVNULL
            )
            assert await deployed.wait() == 0
            await socket.send_str("still there")
            return await moved[0], await moved[1], await asyncio.wait_for(heard, 60)

    assert asyncio.run(clients()) == (200 * MEGABYTE, 200 * MEGABYTE, "still there")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"port": 5001, "host_port": 5000}, ["It listens on port 5000, and not on 5001 (port)."]),
        ({"ready": {"path": "/wait/20", "seconds": 9}, "memory": "512m"}, ["no whole answer in"]),
        (
            {"command": ["python3", "-c", "open('/srv/x', 'w')"], "read_only": True},
            [
                "and was started again",
                "Its root is read-only (read_only), and it tried to write to /srv/x: name that in tmpfs or volumes.",
            ],
        ),
    ],
)
def test_container_that_never_gets_ready_says_why(
    scenario: Scenario, url: str, broken: dict[str, Any], told: list[str]
) -> None:
    # The application itself goes on, whatever the roll-out meets.
    fails(scenario, {"ready": {"path": "/", "seconds": 3}} | broken, *told)
    expect(versions(url), {"1.0"})


def test_container_that_needs_too_much_memory_says_so(scenario: Scenario, url: str) -> None:
    if scenario.host("backend-1").check_output("docker info --format '{{.MemoryLimit}}'") != "true":
        pytest.skip("the hosts' kernel lets no engine limit memory (no controller for it), so nobody is killed")
    broken = {"memory": "64m", "command": ["python3", "-c", "b'x' * 10**9"], "ready": {"path": "/", "seconds": 3}}
    fails(scenario, broken, "It used more memory than it may (memory), and the kernel killed it.")
    expect(versions(url), {"1.0"})


def test_version_that_answers_500_is_undone_and_no_client_notices(scenario: Scenario, url: str, tmp_path: Path) -> None:
    @contextmanager
    def failing() -> Iterator[None]:
        broken = {"env": {"MODE": "broken"}, "ready": {"path": "/news", "seconds": 3}}
        fails(scenario, broken, "did not answer as wanted within 3 s: last it said 500", service="news")
        yield

    outcome = under_load(scenario, tmp_path / "www.gz", failing(), seconds=1, arguments=WWW_LOAD)
    nothing_lost(outcome)
    assert outcome.failed("POST") == [], outcome
    assert versions(url, "/news") == {"1.0"}
