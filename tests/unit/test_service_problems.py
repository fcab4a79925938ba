"""Wrong descriptions of services: each gets a sentence that names service and key, before any host is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.template import trust_as_template

from service_problems import services_problems, services_smallest
from services import services_described
from settings import settings_problems
from topology import site_problems

HOSTS = ["lb", "one", "two"]
GROUPS = {"backends": ["one", "two"], "web": ["two"], "strangers": ["two", "lb"], "empty": []}
PLACES = {"services": ["one", "two"]}


def said(services: Any, **more: Any) -> list[str]:
    """Return all that the preflight says of services, and of other settings of the backends."""
    entries = services if isinstance(services, dict) else {}
    try:
        told = services_described(entries, {"port": 8000})
    except Exception:  # noqa: BLE001 - of another type, and the filters before say so
        told = []
    backend = {"site_services": services, "topology_services_told": told, "group_names": ["backends"]}
    backend |= {"topology_agent_port": 9190, **more}
    hostvars: dict[str, dict[str, Any]] = {
        "lb": {"service_address": "192.0.2.1"},
        "one": {"service_address": "192.0.2.2", **backend},
        "two": {"service_address": "192.0.2.3", **backend},
        "localhost": {},
    }
    return [
        *settings_problems(hostvars, PLACES, HOSTS),
        *services_problems(hostvars, ["one", "two"], GROUPS),
        *site_problems(hostvars, ["one", "two"], ["lb"]),
    ]


def shop(**keys: Any) -> dict[str, Any]:
    """Return a description that is right, but for some keys; ``None`` leaves one out."""
    entry = {"image": "shop:1.4", "port": 3000} | keys
    return {"shop": {key: value for key, value in entry.items() if value is not None}}


def test_right_descriptions_have_no_problems(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>Gleich zurück</p>")
    whole = shop(
        version="1.5",
        command=["serve"],
        host_port=3001,
        env={"A": 1},
        memory="512m",
        cpus=1.5,
        ready={"path": "/up", "status": 204, "host": "shop.example.com", "seconds": 60},
        stop_seconds=30,
        hosts=["shop.example.com"],
        paths=["/a", "/b/c"],
        retry={"statuses": [503], "methods": ["GET", "PUT"], "never": ["^/pay"]},
        answer_times=[{"path": "/", "seconds": 2}],
        timeout="60s",
        tunnel="2h",
        balance="hash path,lower",
        sticky="shop_server",
        log={"driver": "json-file", "options": {"max-size": "50m", "max-file": 2, "compress": True}},
        rate_limit={"requests": "100", "seconds": 10, "concurrent": "20"},
        pids_limit=100,
        allow=["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "0.0.0.0/0"],
        deny=["192.0.2.7", "::1"],
        metrics="/metrics",
        maintenance_page=str(page),
    )
    other = {"other": {"image": "other:2", "port": 80, "group": "web", "ready": {"command": ["true"]}}}
    assert said(whole | other) == []


@pytest.mark.parametrize(
    ("services", "sentence"),
    [
        # Unknown keys, with the nearest known one.
        (
            shop(imgae="x:1"),
            "site_services.shop of one and two has `imgae`, which is unknown (`image` is meant?): write it",
        ),
        (shop(ready={"pth": "/"}), "site_services.shop.ready of one and two has `pth`, which is unknown (`path`"),
        # Types and units.
        ("shop", "site_services of one and two is a value, where a mapping is meant"),
        ({"shop": "shop:1"}, "site_services.shop of one and two is a value, where a mapping is meant"),
        (shop(version=1.10), "site_services.shop.version of one and two is 1.1, where a text is meant"),
        (shop(port="x"), 'site_services.shop.port of one and two is "x", where a whole number is meant'),
        (shop(env=["A=1"]), 'site_services.shop.env of one and two is ["A=1"], where a mapping is meant'),
        (shop(command="serve --all"), "site_services.shop.command of one and two is"),
        (shop(memory=512), 'site_services.shop.memory of one and two is 512, which has no unit: write "512m"'),
        (shop(memory="much"), "site_services.shop.memory of one and two is"),
        (shop(timeout=60), 'site_services.shop.timeout of one and two is 60, which has no unit: write "60s"'),
        (shop(tunnel="1 hour"), "site_services.shop.tunnel of one and two is"),
        (shop(read_only="maybe"), "site_services.shop.read_only of one and two is"),
        (shop(drain="never"), "site_services.shop.drain of one and two is"),
        (shop(port=None), "site_services.shop of one and two lacks `port`: add it."),
        (shop(answer_times=[{"seconds": 1}]), "site_services.shop.answer_times[0] of one and two lacks `path`"),
        # What is meant can't be.
        ({"Shop_1": shop()["shop"]}, "site_services.Shop_1: `Shop_1` can't name a service"),
        ({"site": shop()["shop"]}, "site_services.site: `site` can't name a service"),
        (shop(image=None), "site_services.shop has neither image nor build"),
        (shop(image=None, build={"folder": "/nowhere"}), "site_services.shop.build.folder is /nowhere, where no"),
        (shop(image="a b:1"), 'site_services.shop.image is "a b:1", which is no reference'),
        (shop(version="1 5"), 'site_services.shop.version is "1 5", which is neither a tag'),
        (shop(secrets={"a/b": "x"}), "site_services.shop.secrets of one and two has `a/b`, which can't name a file"),
        (shop(env={"A": [1]}), "site_services.shop.env.A of one and two is a list or mapping"),
        (shop(balance="fastest"), 'site_services.shop.balance is "fastest"'),
        (shop(retry={"never": ["^/a#"]}), "site_services.shop.retry.never has `^/a#` with a space, a quote or #"),
        (shop(ready={"path": "/", "host": "a b"}), "site_services.shop has `a b` in ready.host"),
        (shop(build={"folder": "x"}), "site_services.shop has both image and build"),
        (shop(image="shop"), "site_services.shop.image of one and two is `shop`; it has no tag"),
        (shop(version="latest"), "site_services.shop.version of one and two is `latest`; it has the tag `latest`"),
        (shop(port=70000), "site_services.shop.port is 70000: set it to a number from 1 to 65535."),
        (shop(host_port=-1), "site_services.shop.host_port is -1: set it to a number from 1 to 65535."),
        (
            shop(surge_port=70000),
            "site_services.shop.surge_port is 70000: set it to a number from 1 to 65535, or leave",
        ),
        (
            shop(surge_port=3000),
            "site_services.shop.host_port and site_services.shop.surge_port of one are both 3000",
        ),
        (shop(group="web_"), "site_services.shop.group is `web_`, a group without hosts"),
        (shop(group="strangers"), "site_services.shop.group is `strangers`, and lb of it is no backend"),
        (shop(ready={"path": "up"}), 'site_services.shop.ready.path is "up": begin it with a slash.'),
        (shop(ready={"path": "/a b"}), "site_services.shop.ready.path is `/a b`, with a space"),
        (shop(ready={"path": "/", "command": ["x"]}), "site_services.shop.ready has both path and command"),
        (shop(ready={"path": "/", "status": 99}), "site_services.shop.ready.status is 99, which is no HTTP status"),
        (shop(drain="app"), "site_services.shop.drain is `app`, which answers 404 on its readiness path"),
        (shop(drain="app", ready={"path": "/", "status": 404}), "site_services.shop.ready.status is 404"),
        (shop(hosts=["https://shop.example.com/"]), 'site_services.shop.hosts has "https://shop.example.com/"'),
        (shop(hosts=["*.example.com"]), 'site_services.shop.hosts has "*.example.com", which is no host name'),
        (shop(paths=["api"]), 'site_services.shop.paths has "api", which is no beginning of a path'),
        (shop(paths=["/api?x=1"]), 'site_services.shop.paths has "/api?x=1"'),
        (shop(paths=["/api", "/api/"]), "site_services.shop says */api twice"),
        (shop(retry={"methods": ["FETCH"]}), "site_services.shop.retry.methods has `FETCH`"),
        (shop(retry={"statuses": [418]}), "site_services.shop.retry.statuses has 418, which HAProxy can't try again"),
        (shop(retry={"never": ["("]}), 'site_services.shop.retry.never has "(", which is no regular expression'),
        (shop(answer_times=[{"path": "/"}]), "site_services.shop.answer_times: `/` needs either seconds or"),
        (shop(metrics="metrics"), 'site_services.shop.metrics is "metrics": write its path'),
        (shop(maintenance_page="/nowhere"), "site_services.shop.maintenance_page is /nowhere, which can't be read (No"),
        (shop(maintenance_page=["x"]), "site_services.shop.maintenance_page of one and two is"),
        (shop(balance="round robin;"), "site_services.shop.balance is"),
        (shop(log="local"), "site_services.shop.log of one and two is"),
        (shop(log={"options": {"max-size": "1m"}}), "site_services.shop.log of one and two lacks `driver`: add it."),
        (shop(log={"driver": "json"}), 'site_services.shop.log.driver of one and two is "json", which is none of json'),
        (shop(log={"driver": "local", "options": "x"}), "site_services.shop.log.options of one and two is"),
        (
            shop(log={"driver": "local", "options": {"maxsize": "1m"}}),
            "site_services.shop.log.options.maxsize is none of the driver local: it knows compress, max-buffer-size",
        ),
        (
            shop(log={"driver": "local", "options": {"max-size": "much"}}),
            "site_services.shop.log.options.max-size is much: write a number and k, m or g",
        ),
        (
            shop(log={"driver": "json-file", "options": {"max-file": 0}}),
            "site_services.shop.log.options.max-file is 0: write a number from 1.",
        ),
        (
            shop(log={"driver": "syslog", "options": {"tag": ["x"]}}),
            "site_services.shop.log.options.tag is no text: write it as one.",
        ),
        (shop(rate_limit=9), "site_services.shop.rate_limit of one and two is"),
        (shop(rate_limit={"seconds": 9}), "site_services.shop.rate_limit has seconds and no requests: say how many"),
        (
            shop(rate_limit={"concurrent": -1}),
            "site_services.shop.rate_limit.concurrent is -1: set it to a number from 0",
        ),
        (shop(rate_limit={"concurrent": "few"}), 'site_services.shop.rate_limit.concurrent of one and two is "few"'),
        (shop(rate_limit={"requests": "many"}), 'site_services.shop.rate_limit.requests of one and two is "many"'),
        (shop(rate_limit={"requests": 9, "per": "s"}), "site_services.shop.rate_limit of one and two has `per`"),
        (shop(rate_limit={"requests": -1}), "site_services.shop.rate_limit.requests is -1: set it to a number from 0"),
        (shop(rate_limit={"requests": 9, "seconds": 0}), "site_services.shop.rate_limit.seconds is 0: set it to a"),
        (shop(rate_limit={"requests": 9, "seconds": 90000}), "site_services.shop.rate_limit.seconds is 90000: set"),
        (shop(allow="192.0.2.1"), "site_services.shop.allow of one and two is"),
        (shop(allow=[10]), "site_services.shop.allow[0] of one and two is 10, where a text is meant"),
        (shop(allow=["192.0.2.1/24"]), 'site_services.shop.allow has "192.0.2.1/24", which has bits set behind its'),
        (shop(allow=["192.0.2.256"]), 'site_services.shop.allow has "192.0.2.256", which is no address and no network'),
        (shop(deny=["192.0.2.0/255.255.255.0"]), 'site_services.shop.deny has "192.0.2.0/255.255.255.0", which is no'),
        (shop(deny=["fe80::1%eth0"]), 'site_services.shop.deny has "fe80::1%eth0", which is no address'),
        (shop(deny=["2001:db8::1/129"]), 'site_services.shop.deny has "2001:db8::1/129", which is no address'),
        (shop(deny=["shop.example.com"]), 'site_services.shop.deny has "shop.example.com", which is no address'),
        (shop(sticky=True), "site_services.shop.sticky of one and two is true, where a text is meant"),
        (shop(sticky="my seat"), 'site_services.shop.sticky is "my seat", which can\'t name a cookie'),
        (shop(sticky="__Host-seat"), 'site_services.shop.sticky is "__Host-seat", which can\'t name a cookie'),
        # Several of them.
        (
            shop() | {"api": {"image": "api:1", "port": 3001}},
            "shop and api would both get what nobody else is asked for",
        ),
        (
            shop(paths=["/x"]) | {"api": {"image": "api:1", "port": 3001, "paths": ["/x"]}},
            "site_services.shop and site_services.api both get what is asked as */x",
        ),
        (
            shop(sticky="seat") | {"api": {"image": "api:1", "port": 3001, "paths": ["/x"], "sticky": "seat"}},
            "site_services.shop and site_services.api have the same cookie, seat (sticky)",
        ),
        (
            shop(paths=["/x"]) | {"api": {"image": "api:1", "port": 80, "host_port": 3000}},
            "site_services.shop.host_port and site_services.api.host_port of one are both 3000",
        ),
        (shop(host_port=9091), "pushgateway_port and site_services.shop.host_port of one are both 9091"),
        (shop(host_port=9190), "site_services.shop.host_port and backend_app_agent_port of one are both 9190"),
    ],
)
def test_wrong_description_gets_a_sentence(services: Any, sentence: str) -> None:
    found = said(services)
    assert any(text.startswith(sentence) for text in found), found
    assert all(text.endswith((".", ").")) or "(" in text for text in found), found


@pytest.mark.parametrize(
    "settings",
    [
        {"site_services": shop(secrets="hunter2")},
        {"site_services": shop(secret_env=["hunter2"])},
        {"site_registries": {"r.example.com": "me:hunter2"}},
        {"site_registries": {"r.example.com": {"username": "me", "password": ["hunter2"]}}},
        {"site_registries": {"r.example.com": {"username": "me", "pasword": "hunter2"}}},
    ],
)
def test_secret_of_a_wrong_type_is_not_shown(settings: dict[str, Any]) -> None:
    hosts: dict[str, dict[str, Any]] = {"lb": {}, "one": settings, "two": settings, "localhost": {}}
    found = settings_problems(hosts, PLACES, HOSTS)
    assert found
    assert "hunter2" not in " ".join(found)


def test_hosts_need_one_list_of_services() -> None:
    told = services_described(shop(), {})
    more = services_described(shop() | {"api": {"image": "api:1", "port": 1, "paths": ["/api"]}}, {})
    hostvars = {"one": {"topology_services_told": told}, "two": {"topology_services_told": more}}
    (found,) = services_problems(hostvars, ["one", "two"], GROUPS)
    assert found.startswith("one and two have different services in site_services")


def test_batch_is_measured_by_the_smallest_service() -> None:
    told = services_described(shop() | {"api": {"image": "api:1", "port": 1, "group": "pair"}}, {})
    groups = {"backends": ["one", "two", "three", "four"], "pair": ["one", "two"]}
    assert services_smallest({"one": {"topology_services_told": told}}, groups["backends"], groups) == 2
    # One that has a single host is taken out in any case.
    groups["pair"] = ["one"]
    assert services_smallest({"one": {"topology_services_told": told}}, groups["backends"], groups) == 4


def test_settings_of_the_guides_api_count_for_nothing_beside_services() -> None:
    found = said(shop(), backend_app_port=81)
    assert any(
        text.startswith("backend_app_port is set for one and two and counts for the guide's API") for text in found
    )


def test_facts_are_refused_where_deploys_do_not_have_them() -> None:
    template: str = trust_as_template("{{ ansible_facts['distribution'] }}")
    found = said(shop(env={"OS": template}, reddy={}))
    assert any("is made of ansible_facts" in text for text in found)
    assert any("`reddy`, which is unknown (`ready` is meant?)" in text for text in found)


def test_balancers_need_one_description() -> None:
    told = services_described(shop(ready={"path": "/a"}), {})
    other = services_described(shop(ready={"path": "/b"}, env={"A": "here"}), {})
    hostvars = {"one": {"topology_services_told": told}, "two": {"topology_services_told": other}}
    assert services_problems(hostvars, ["one", "two"], GROUPS) == [
        "shop.ready is not the same on one and two, but the balancers need one: set site_services in "
        "group_vars/all.yml."
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "with 0 bytes: HAProxy can send one of 1 to 14000"),
        (b"x" * 14_001, "with 14001 bytes: HAProxy can send one of 1 to 14000"),
        (b"zur\xfcck", "which is no text in UTF-8: save it as one."),
        (b"x" * 14_000, ""),
    ],
)
def test_maintenance_page_is_one_that_haproxy_can_send(tmp_path: Path, content: bytes, sentence: str) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(content)
    found = said(shop(maintenance_page=str(page)))
    assert [f"site_services.shop.maintenance_page is {page}, " in each and sentence in each for each in found] == [
        True for _ in [sentence] if sentence
    ]


def test_description_of_a_certificate_is_checked_like_all_others() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    assert said(shop(tls={"pem": pem})) == []
    assert said(shop(tls={"file": "shop.pem"})) == []
    (unknown,) = said(shop(tls={"flie": "shop.pem"}))
    assert "site_services.shop.tls of" in unknown
    assert "`file` is meant?" in unknown
    (text,) = said(shop(tls="shop.pem"))
    assert "site_services.shop.tls" in text
    assert "a mapping is meant" in text
    # A line break is an error of writing everywhere but in PEM.
    assert "line break" in said(shop(tls={"file": "shop.pem\n"}))[0]
