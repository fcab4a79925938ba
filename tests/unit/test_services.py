"""The filters that read the services' descriptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from haproxy import haproxy_longest, haproxy_pages, haproxy_private, haproxy_services_whole
from services import (
    one_service,
    secrets_digest,
    service_hash,
    service_texts,
    services_alone,
    services_claims,
    services_described,
    services_jobs,
    services_map,
    services_of_host,
    services_strays,
    services_with_servers,
)

GUIDE: dict[str, Any] = {"build": {"folder": "guide"}, "port": 8000, "host_port": 80, "drain": "app", "ready": None}
GROUPS = {"backends": ["one", "two"], "web": ["two"]}


def described(**services: dict[str, Any]) -> list[dict[str, Any]]:
    """Return described services; each gets an image and a port where it has none."""
    whole = {name: {"image": "shop:1", "port": 3000} | entry for name, entry in services.items()}
    return services_described(whole, GUIDE)


def shop(**keys: Any) -> dict[str, Any]:
    """Return one described service."""
    return described(shop=keys)[0]


def test_guide_counts_where_nothing_is_described() -> None:
    (guide,) = services_described({}, GUIDE)
    assert (guide["name"], guide["guide"], guide["default"], guide["ready"]) == ("app", True, True, None)
    assert guide["reference"] == ""
    assert not shop()["guide"]


def test_what_is_left_out_is_filled_in_and_mappings_are_merged() -> None:
    service = shop(ready={"path": "/up"}, retry={"statuses": [503]})
    assert service["host_port"] == 3000
    assert service["ready"] == {"path": "/up", "status": 200, "host": "", "command": None, "seconds": None}
    assert service["retry"] == {"statuses": [503], "methods": None, "never": []}
    assert (service["drain"], service["tunnel"], service["capabilities"]) == ("host", "1h", None)
    assert shop(rate_limit={"requests": "9"})["rate_limit"] == {"requests": 9, "seconds": 1, "concurrent": None}
    # Applications that know their own names refuse others.
    assert shop(hosts=["shop.example.com"], ready={"path": "/"})["ready"]["host"] == "shop.example.com"


def test_other_hosts_are_not_asked_for_what_is_made_of_the_hosts_own() -> None:
    entry = {"shop": {"image": "shop:1", "port": 1, "env": {"A": "b"}}}
    assert "env" not in services_described(entry, GUIDE, {}, inner=False)[0]
    assert services_described(entry, GUIDE)[0]["env"] == {"A": "b"}


@pytest.mark.parametrize(
    ("image", "version", "wanted"),
    [
        ("shop:1", "", "shop:1"),
        ("shop", "2", "shop:2"),
        ("shop:1", "2", "shop:2"),
        ("registry.example.com:5000/team/shop:1", "2", "registry.example.com:5000/team/shop:2"),
        ("registry.example.com:5000/team/shop", "2", "registry.example.com:5000/team/shop:2"),
        ("shop:1@sha256:aa", "2", "shop:2"),
        ("shop:1", "sha256:bb", "shop@sha256:bb"),
    ],
)
def test_version_takes_the_place_of_tag_and_digest(image: str, version: str, wanted: str) -> None:
    assert shop(image=image, version=version)["reference"] == wanted


def test_version_that_is_asked_for_is_that_of_one_service() -> None:
    entries = {name: {"image": f"{name}:1", "port": 1} for name in ("shop", "api")}
    found = services_described(entries, GUIDE, {"service": "api", "version": "2"})
    assert [service["reference"] for service in found] == ["shop:1", "api:2"]
    (only,) = services_described({"shop": entries["shop"]}, GUIDE, {"service": "", "version": "2"})
    assert only["reference"] == "shop:2"


def test_services_run_on_the_hosts_of_their_group() -> None:
    services = described(shop={}, web={"group": "web", "host_port": 81})
    assert [service["name"] for service in services_of_host(services, "one", GROUPS)] == ["shop"]
    assert [service["name"] for service in services_of_host(services, "two", GROUPS)] == ["shop", "web"]
    hostvars: dict[str, dict[str, Any]] = {"one": {"topology_services_told": services, "topology_agent_port": 9190}}
    # A host may publish it elsewhere.
    hostvars["two"] = {
        "topology_services_told": described(shop={"host_port": 3001, "surge_port": 3002}, web={"host_port": 81}),
        "topology_agent_port": 9999,
    }
    endpoints = [
        {"name": "one", "address": "192.0.2.1", "port": 80},
        {"name": "two", "address": "192.0.2.2", "port": 80},
    ]
    whole = services_with_servers(services, endpoints, hostvars, GROUPS)
    assert whole[0]["servers"] == [
        {"name": "one", "address": "192.0.2.1", "port": 3000, "surge_port": 0, "agent_port": 9190},
        {"name": "two", "address": "192.0.2.2", "port": 3001, "surge_port": 3002, "agent_port": 9999},
    ]
    assert [server["name"] for server in whole[1]["servers"]] == ["two"]
    assert services_alone(whole) == ["web"]


def test_routes_lead_from_host_and_path_to_a_service() -> None:
    services = described(
        shop={},
        api={"paths": ["/api", "/v2/"]},
        files={"hosts": ["Files.example.com"]},
        both={"hosts": ["a.example.com", "b.example.com"], "paths": ["/x"]},
    )
    assert services_map(services) == [
        "*/api/ api",
        "*/v2/ api",
        "files.example.com/ files",
        "a.example.com/x/ both",
        "b.example.com/x/ both",
    ]
    assert [service["name"] for service in services if service["default"]] == ["shop"]


def test_metrics_are_scraped_where_a_service_says_so() -> None:
    server = {"name": "one", "address": "192.0.2.1", "port": 3000}
    service = shop(metrics="/stats") | {"servers": [server]}
    assert services_jobs([service, shop() | {"servers": [server]}]) == [
        {
            "name": "backend_shop",
            "metrics_path": "/stats",
            "targets": [{"address": "192.0.2.1:3000", "instance": "one"}],
        }
    ]


def test_claims_are_what_a_service_takes_on_its_host() -> None:
    claims = services_claims([shop(surge_port=3002), *services_described({}, GUIDE)], "192.0.2.1", 9190)
    units = [Path(claim["path"]).stem for claim in claims["files"]]
    assert units == ["backend_app_announce", "backend_app_agent", "backend_shop", "backend_app"]
    assert [claim["name"] for claim in claims["containers"]] == [
        *["backend_shop", "backend_shop_former", "backend_shop_next"],
        *["backend_app", "backend_app_former", "backend_app_next"],
    ]
    settings = {claim["port"]: claim["setting"] for claim in claims["ports"]}
    assert settings == {
        3000: "site_services.shop.host_port",
        3002: "site_services.shop.surge_port",
        80: "backend_app_port",
        9190: "backend_app_agent_port",
    }
    # An application that says itself when to look away needs no agent.
    guide = services_claims(services_described({}, GUIDE), "192.0.2.1", 9190)
    assert "backend_app_agent" not in str(guide)


def test_container_is_another_when_anything_in_it_changes() -> None:
    plain = service_hash(shop())
    given = {"env": {"A": "1"}, "memory": "64m", "read_only": True, "capabilities": [], "user": "1"}
    for key, value in (given | {"log": {"driver": "local"}}).items():
        assert service_hash(shop(**{key: value})) != plain, key
    # What HAProxy alone is told replaces no container.
    assert (
        service_hash(shop(paths=["/a"], timeout="9s", version="7", group="web", sticky="seat", deny=["::1"])) == plain
    )


def test_services_that_nobody_describes_are_found_among_our_containers() -> None:
    def container(name: str, image: str = "x:1", **labels: str) -> dict[str, Any]:
        return {"Names": [f"/{name}"], "Image": image, "Labels": labels}

    label = {"evenkeel.service": "x"}
    containers = [
        container("backend_shop", **label),
        container("backend_shop_former", **label),
        container("backend_old", **label),
        container("backend_somebodys"),
        container("backend_app", "evenkeel.local/backend_app:1"),
    ]
    assert services_strays(containers, [shop()]) == ["backend_app", "backend_old"]
    assert services_strays(containers, services_described({}, GUIDE)) == [
        *["backend_old", "backend_shop", "backend_shop_former"]
    ]


def test_secrets_are_another_set_when_one_changes() -> None:
    assert secrets_digest({}) == ""
    assert secrets_digest({"A": "1"}) != secrets_digest({"A": "2"})
    assert secrets_digest({"A": "1", "B": "2"}) == secrets_digest({"B": "2", "A": "1"})


def test_numbers_may_be_given_as_texts() -> None:
    service = shop(port="3000", ready={"status": "204"}, retry={"statuses": ["503"]}, max_requests="9", version="1.5")
    assert (service["port"], service["host_port"], service["max_requests"]) == (3000, 3000, 9)
    assert (service["ready"]["status"], service["retry"]["statuses"], service["version"]) == (204, [503], "1.5")
    assert shop(answer_times=[{"path": "/1", "seconds": "1.5"}])["answer_times"] == [{"path": "/1", "seconds": 1.5}]


def test_folder_of_a_build_is_relative_to_the_inventory() -> None:
    entry = {"shop": {"build": {"folder": "../shop"}, "port": 1}}
    assert services_described(entry, GUIDE, folder="/site")[0]["build"]["folder"] == "/site/../shop"
    entry["shop"]["build"] = {"folder": "/shop"}
    assert services_described(entry, GUIDE, folder="/site")[0]["build"]["folder"] == "/shop"


def test_maintenance_page_is_relative_to_the_inventory_and_named_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("Back soon")
    entries = {name: {"image": "x:1", "port": 1, "maintenance_page": "page.html"} for name in ("shop", "api")}
    whole = services_described(entries | {"plain": {"image": "x:1", "port": 1}}, GUIDE, folder=str(tmp_path))
    path = f"{tmp_path}/page.html"
    assert [service["maintenance_page"] for service in whole] == [path, path, ""]
    # What `sha256sum` says of it.
    assert haproxy_pages(whole) == {path: "/etc/haproxy/evenkeel-98aef99c99f6.html"}
    # The role takes services that say nothing.
    assert haproxy_pages(haproxy_services_whole([{"name": "app"}], UNSAID)) == {}
    (tmp_path / "page.html").unlink()
    with pytest.raises(AnsibleFilterError, match=r"page\.html can't be read: No such file or directory"):
        haproxy_pages(whole)


def test_environment_is_texts() -> None:
    assert service_texts({"A": 1, "B": True, "C": None, "D": "x"}) == {"A": "1", "B": "true", "C": "", "D": "x"}


@pytest.mark.parametrize(
    ("wanted", "needed", "sentence"),
    [
        ("", False, ""),
        ("api", True, ""),
        ("ap", False, "`ap` is no service of this inventory (`api` is meant?): there are shop, api."),
        ("", True, "Which service is meant was not said: write -e service=<shop or api>."),
    ],
)
def test_service_that_is_asked_for(wanted: str, needed: bool, sentence: str) -> None:
    assert one_service(described(shop={}, api={"paths": ["/api"]}), wanted, needed) == sentence


def test_the_only_service_need_not_be_named() -> None:
    assert one_service(described(shop={}), "", needed=True) == ""


UNSAID: dict[str, Any] = {
    "balance": "leastconn",
    "max_requests": 128,
    "servers": [{"name": "first"}],
    "ready": {"path": "/readyz", "status": 200, "host": ""},
    "retry": {"failures": ["conn-failure", "500"], "methods": ["GET"], "never": ["^/x"]},
    "answer_times": [{"path": "/", "seconds": 1}],
    "concurrent": 7,
}


def test_haproxy_takes_its_own_settings_where_a_service_says_nothing() -> None:
    (plain,) = haproxy_services_whole([{"name": "app"}], UNSAID)
    assert plain | UNSAID == plain
    assert (plain["drain"], plain["default"], plain["sticky"]) == ("app", True, "")
    assert (plain["rate_limit"], plain["allow"], plain["deny"]) == ({"requests": 0, "concurrent": 7}, [], [])
    (own,) = haproxy_services_whole([{"name": "app", "rate_limit": {"requests": 9, "concurrent": 0}}], UNSAID)
    assert own["rate_limit"] == {"requests": 9, "concurrent": 0}
    (guide,) = haproxy_services_whole(services_described({}, GUIDE | {"retry": None, "answer_times": None}), UNSAID)
    assert (guide["retry"], guide["answer_times"], guide["ready"]) == (
        UNSAID["retry"],
        UNSAID["answer_times"],
        UNSAID["ready"],
    )


def test_status_of_an_unknown_application_is_its_answer() -> None:
    (service,) = haproxy_services_whole([shop()], UNSAID)
    assert service["retry"] == {"failures": ["conn-failure"], "methods": ["GET"], "never": ["^/x"]}
    # What it does not say, the role's settings say.
    assert (service["answer_times"], service["max_requests"]) == (UNSAID["answer_times"], 128)
    assert service["ready"]["path"] == "/readyz"
    assert haproxy_services_whole([shop(ready={"command": ["true"]})], UNSAID)[0]["ready"]["path"] == ""
    (service,) = haproxy_services_whole([shop(retry={"statuses": [503]})], UNSAID)
    assert service["retry"]["failures"] == ["conn-failure", "503"]
    # Where nothing is tried again, nothing is.
    off = UNSAID | {"retry": {"failures": [], "methods": [], "never": []}}
    assert haproxy_services_whole([shop(retry={"statuses": [503]})], off)[0]["retry"]["failures"] == []


def test_longest_time_is_found_whatever_its_unit() -> None:
    assert haproxy_longest(["90s", "1h", "500ms"]) == "1h"


def test_metrics_of_a_service_are_as_private_as_the_checks_path() -> None:
    services = [shop(metrics="/actuator/prometheus"), shop()]
    wanted = ["/readyz", "/readyz/", "/actuator/prometheus", "/actuator/prometheus/"]
    assert haproxy_private(services, ["/readyz"]) == wanted
    assert haproxy_private(services, []) == []


def test_cookie_of_a_server_is_the_same_at_every_balancer_and_not_its_name() -> None:
    def cookies(name: str, servers: list[str]) -> list[str]:
        whole = haproxy_services_whole(
            [{"name": name, "sticky": "seat", "servers": [{"name": each} for each in servers]}], UNSAID
        )
        return [server["cookie"] for server in whole[0]["servers"]]

    one, two = cookies("shop", ["one", "two"])
    assert cookies("shop", ["two", "one"]) == [two, one]
    assert cookies("api", ["one"]) != [one]
    assert re.fullmatch("[0-9a-f]{12}", one)
    assert one != two
