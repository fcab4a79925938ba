"""The filters that check what was set, for every host and role, before a run touches the first host."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

from inventory_files import inventory_problems
from settings import (
    PROJECT,
    image_tag,
    options,
    run_problems,
    settings_problems,
    unit,
    version_problem,
)

PLACES = {
    **{
        key: ["one", "two"]
        for key in ["docker", "backend_app", "pushgateway", "cpu_monitor", "rolling_update", "deploy"]
    },
    **{key: ["lb"] for key in ["haproxy", "prometheus", "grafana", "drain", "ready"]},
    "chaos": ["localhost"],
}
HOSTS = ["lb", "one", "two"]
GROUPS = {"all": HOSTS, "ungrouped": [], "balancers": ["lb"], "backends": ["one", "two"]}


def problems(settings: dict[str, Any], hosts: list[str] | None = None) -> list[str]:
    """Return what is said of settings on some hosts (all of them without a list)."""
    chosen = [*HOSTS, "localhost"] if hosts is None else hosts
    return settings_problems(
        {host: settings if host in chosen else {} for host in [*HOSTS, "localhost"]}, PLACES, HOSTS
    )


def template(text: str) -> str:
    trusted: str = trust_as_template(text)
    return trusted


def test_nothing_set_is_nothing_wrong() -> None:
    assert problems({}) == []


@pytest.mark.parametrize("role", sorted(path.parents[1].name for path in PROJECT.glob("roles/*/defaults/main.yml")))
def test_what_a_role_takes_by_itself_may_be_set(role: str) -> None:
    defaults = yaml.safe_load((PROJECT / "roles" / role / "defaults" / "main.yml").read_text())
    # The others are made of what the inventory says.
    plain = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    hosts = PLACES.get(role, HOSTS)
    assert problems(plain, hosts) == []


def test_logins_to_registries_may_be_set() -> None:
    assert problems({"site_registries": {"r.example.com:5000": {"username": "me", "password": "x"}}}) == []


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        # A number where a unit is meant, of whatever program.
        ("haproxy_timeout_server", 60, 'haproxy_timeout_server of lb is 60, which has no unit: write "60s"'),
        ("haproxy_timeout_server", "30", 'haproxy_timeout_server of lb is "30", which has no unit: write "30s"'),
        ("haproxy_check_interval", "0.5s", "no whole number with a unit of us, ms, s, m, h or d"),
        ("haproxy_timeout_client", "30 s", "no whole number with a unit"),
        ("haproxy_timeout_client", "1w", "no whole number with a unit"),
        ("haproxy_timeout_client", "90d", "longer than HAProxy can wait"),
        ("prometheus_scrape_interval", 1, 'prometheus_scrape_interval of lb is 1, which has no unit: write "1s"'),
        ("prometheus_retention_time", "15", 'write "15d"'),
        ("prometheus_retention_size", 10, 'write "10GB"'),
        ("prometheus_retention_size", "10G", "no whole number with a unit of B, KB, MB"),
        ("grafana_scrape_interval", 5, 'write "5s"'),
        # What YAML has made another type of.
        (
            "backend_app_version",
            1.1,
            "backend_app_version of one and two is 1.1, where a text is meant: put it in quotes, as",
        ),
        ("backend_app_name", True, "where a text is meant (YAML makes that of yes, no, on and off too)"),
        ("backend_app_version", dt.date(2026, 11, 25), "2026-11-25, where a text is meant: put it in quotes"),
        ("haproxy_check_path", None, "haproxy_check_path of lb is empty (null)"),
        ("haproxy_balance", ["roundrobin"], "where a text is meant"),
        ("haproxy_retry_on", [500], "haproxy_retry_on[0] of lb is 500, where a text is meant"),
        ("grafana_address", "", "grafana_address of lb is empty"),
        ("grafana_admin_password", "two\nlines", "grafana_admin_password of lb has a line break"),
        # Types, choices, bounds.
        ("haproxy_maxconn", "1k", 'haproxy_maxconn of lb is "1k", where a whole number is meant'),
        ("haproxy_maxconn", True, "where a whole number is meant"),
        ("haproxy_check_fall", 0, "out of bounds: write a number from 1 to 1000"),
        (
            "backend_app_ready_seconds",
            "30s",
            "where a whole number is meant: write it without quotes and without a unit",
        ),
        ("backend_app_drain_seconds", -1, "out of bounds: write a number from 0 or more"),
        ("cpu_monitor_interval", "fast", "where a number is meant"),
        ("grafana_port", 70000, "grafana_port of lb is 70000: set it to a number from 1 to 65535"),
        ("haproxy_redispatch", "maybe", "neither true nor false"),
        ("haproxy_http_reuse", "sometimes", "none of auto, never, safe, aggressive, always"),
        ("haproxy_retry_methods", "GET", "where a list is meant"),
        ("docker_daemon_options", "{}", "where a mapping is meant"),
        (
            "haproxy_answer_times",
            [{"path": "/", "secnds": 1}],
            "haproxy_answer_times[0] of lb has `secnds`, which is unknown",
        ),
        ("haproxy_answer_times", [{"seconds": 1}], "haproxy_answer_times[0] of lb lacks `path`"),
        ("haproxy_answer_times", [{"path": "/", "seconds": "1s"}], "haproxy_answer_times[0].seconds of lb is"),
        ("prometheus_scrape_jobs", [{"name": 1, "targets": []}], "prometheus_scrape_jobs[0].name of lb is 1"),
        ("deploy_force", "perhaps", "deploy_force of one and two is"),
        ("drain_wait", "30s", "drain_wait of lb is"),
        ("target", 5, "target of lb is 5, where a text is meant"),
        ("prometheus_version", "latest", "which moves: name one version"),
        ("backend_app_version", "1 0", "which is no version"),
        # Images by a tag that somebody else moves.
        ("backend_app_image", "registry.example.com:5000/app", "has no tag, which means `latest`"),
        ("pushgateway_image", "docker.io/prom/pushgateway:latest", "has the tag `latest`, which moves"),
        ("backend_app_base_image", "python:stable", "has the tag `stable`, which moves"),
        # Names.
        ("haproxy_timout_server", "30s", "there is no such setting (haproxy_timeout_server is meant?)"),
        ("haproxy_colour", "x", "there is no such setting: use one of roles/haproxy/defaults/main.yml"),
        ("deploy_forse", True, "there is no such setting (deploy_force is meant?)"),
        ("backend_app_leave_running", False, "there is no such setting"),
        ("service_adress", "192.0.2.1", "(service_address is meant?)"),
        # Of a former release.
        ("rolling_swap_keep_up", 2, "there is no such setting (rolling_update_keep_up is meant?)"),
        (
            "rolling_swap_nothing_like_it",
            2,
            "there is no such setting: use one of roles/rolling_update/defaults/main.yml",
        ),
    ],
)
def test_wrong_setting_gets_one_sentence_with_host_and_mend(name: str, value: Any, wanted: str) -> None:
    found = problems({name: value})
    assert len(found) == 1
    assert wanted in found[0]
    assert name in found[0]
    assert found[0].endswith((".", ")"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # As -e name=value gives them: all are texts.
        ("haproxy_check_fall", "3"),
        ("haproxy_redispatch", "false"),
        ("cpu_monitor_interval", "0.5"),
        ("chaos_rate", "2e2"),
        ("deploy_batch", "25%"),
        ("haproxy_timeout_queue", "1500ms"),
        ("prometheus_retention_time", "1y2w"),
        ("prometheus_retention_size", "512MB"),
        ("haproxy_slow_start", ""),
        ("backend_app_image", "registry.example.com:5000/team/app:1.2"),
        ("backend_app_image", "registry.example.com/app@sha256:" + "0" * 64),
        ("chaos_power_off", "one\ntwo"),
        ("backend_app_version", "1.10"),
        ("ansible_managed", "x"),
        ("dockerish", 1),
        # Left by a playbook that ran before in the same run.
        ("backend_app_swap", {}),
        ("rolling_update_outcome", {}),
    ],
)
def test_right_setting_is_not_refused(name: str, value: Any) -> None:
    assert problems({name: value}) == []


def test_secrets_are_not_shown() -> None:
    (found,) = problems({"grafana_admin_password": 42798})
    assert "42798" not in found
    assert "put it in quotes" in found


def test_value_that_can_not_be_computed_names_host_and_variable() -> None:
    (found,) = problems({"haproxy_balance": template("{{ nowhere }}")})
    assert found.startswith("haproxy_balance of lb can't be computed: 'nowhere' is undefined. Set what it is made of")
    (found,) = problems({"service_address": template("{{ ansible_facts.default_ipv4.address }}")}, ["two"])
    assert found.startswith(
        "service_address of two can't be computed: object of type 'dict' has no attribute 'default_ipv4'"
    )
    assert "write the address itself" in found


def test_values_may_be_made_of_other_settings_and_of_the_facts_that_are_gathered() -> None:
    assert problems({"docker_apt_url": template("http://mirror/{{ ansible_facts['distribution'] | lower }}")}) == []
    assert problems({"docker_packages": [template("docker-ce=5:{{ docker_version }}-*")]}) == []
    helper = {"grafana_mail_password": "x"}
    made = {"grafana_extra_options": {"smtp": {"password": template("{{ grafana_mail_password }}")}}}
    assert problems({**helper, **made}) == []
    assert len(problems(helper)) == 1


def test_foreign_names_and_moving_tags_can_be_allowed() -> None:
    assert problems({"docker_users": ["me"], "preflight_other_names": ["docker_users"]}) == []
    assert problems({"backend_app_image": "app:latest", "preflight_moving_tags": True}) == []


def test_all_problems_are_told_each_once() -> None:
    found = problems({"haproxy_timeout_server": 60, "backend_app_version": 1.1, "haproxy_timout_queue": "5s"})
    assert len(found) == 3
    assert sum("every host" in sentence for sentence in found) == 1


def test_setting_where_nothing_reads_it_is_refused() -> None:
    (found,) = problems({"haproxy_timeout_server": "60s"}, ["one"])
    assert found.startswith("haproxy_timeout_server is set for one, where nothing reads it: it counts on lb.")
    assert problems({"haproxy_timeout_server": "60s"}, ["one", "lb"]) == []
    assert "it counts on localhost" in problems({"chaos_rate": 10}, ["one"])[0]


def test_every_text_that_looks_like_a_time_or_a_size_is_held_to_its_unit() -> None:
    named = r"_interval$|_timeout$|_timeout_|_margin$|_size$|_slow_start$|retention"
    import re

    for role, known in options().items():
        for name, option in known.items():
            if option["type"] == "str" and re.search(named, name):
                assert unit(role, name, option, known), name
            held = unit(role, name, option, known)
            if held and re.fullmatch(r"\d.*", str(option["default"])):
                # The default itself has a unit that the program takes.
                assert re.fullmatch(held[0], option["default"]), name


def test_option_that_may_be_empty_says_what_that_means() -> None:
    for known in options().values():
        for name, option in known.items():
            if option["type"] in {"str", "path"} and option.get("default") == "":
                assert "empty" in option["description"], name


@pytest.mark.parametrize(
    ("reference", "tag"),
    [("a", ""), ("r:5000/a", ""), ("r:5000/a:1", "1"), ("a:latest", "latest"), ("a:1@sha256:00", "sha256:00")],
)
def test_image_tag(reference: str, tag: str) -> None:
    assert image_tag(reference) == tag


def run(
    tags: list[str], skip: list[str] | None = None, limit: str = "", needs: str = "", known: bool = True
) -> list[str]:
    given = {"run": tags, "skip": skip or [], "known": ["docker", "haproxy"] if known else []}
    hosts = [host for host in HOSTS if not limit or host in limit]
    return run_problems(given, limit, hosts, GROUPS, needs)


def test_tags_of_a_playbook_are_taken_and_others_refused() -> None:
    assert run(["all"]) == run(["haproxy", "docker"]) == run(["all"], ["docker"]) == []
    assert run(["haproxi"]) == ["This playbook has no tag `haproxi` (--tags): there are docker, haproxy."]
    assert run(["always"]) != []
    assert "(--skip-tags)" in run(["all"], ["grafna"])[0]
    assert run(["all"], ["molecule-notest", "notest", "molecule-idempotence-notest"]) == []
    assert run(["haproxy"], known=False)[0].endswith("it has none, and always runs as a whole.")


def test_limit_that_leaves_nothing_to_do_is_refused() -> None:
    assert run(["all"], limit="one,two") == run(["all"], limit="lb", needs="balancers") == []
    assert run(["all"], limit="all:!one") == []
    assert "`tow`, which is no host and no group (`two` is meant?)" in run(["all"], limit="one:tow")[0]
    assert "leaves out every host of the group `backends`" in run(["all"], limit="lb", needs="backends")[0]
    assert "leaves out every host of the site" in run(["all"], limit="localhost")[0]


def test_answer_that_may_take_longer_than_haproxy_waits_is_refused() -> None:
    said = (
        "backend_app_sleep_max_seconds of one and two is 40, and HAProxy ends a request before that: set "
        'haproxy_timeout_server to more, such as "60s", or that one to less.'
    )
    assert problems({"backend_app_sleep_max_seconds": 40}) == [said]
    assert problems({"backend_app_sleep_max_seconds": 40, "haproxy_timeout_server": "1m"}) == []
    assert "is 10, and HAProxy" in problems({"haproxy_timeout_server": "9000ms"})[0]
    # Of somebody's own image nothing is known.
    assert problems({"haproxy_timeout_server": "9s", "backend_app_image": "registry.example.com/app:1"}) == []
    # What is no time has its own sentence.
    assert len(problems({"haproxy_timeout_server": "9"})) == 1


def test_groups_that_count_for_nobody_are_refused() -> None:
    assert inventory_problems(GROUPS, []) == []
    assert "`monitoring` is there and has no host" in inventory_problems({**GROUPS, "monitoring": []}, [])[0]
    assert "`monitoring`: rename it" in inventory_problems({**GROUPS, "monitring": ["lb"]}, [])[0]
    # A group of one's own is nobody's business, nor is one that resembles a group that is there.
    assert inventory_problems({**GROUPS, "backend": ["one"], "berlin": ["one"]}, []) == []


def test_files_of_settings_that_ansible_does_not_read_are_refused(tmp_path: Path) -> None:
    sources = [str(tmp_path / "hosts.yml")]
    (tmp_path / "hosts.yml").write_text("all: {}\n")
    for path in ("group_vars/all/site.yml", "group_vars/backends.yml", "host_vars/one.yml", "group_vars/README.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("---\n")
    assert inventory_problems(GROUPS, sources) == []
    (tmp_path / "group_vars" / "all.yml").write_text("---\n")
    (tmp_path / "group_vars" / "backends.yaml").write_text("---\n")
    (tmp_path / "group_vars" / "balancer.yml").write_text("---\n")
    (tmp_path / "host_vars" / "tow.yml").write_text("topology_address: 192.0.2.1\n")
    found = "\n".join(inventory_problems(GROUPS, sources))
    assert "group_vars/all.yml is not read, since" in found
    assert "group_vars/backends.yaml is not read, since" in found
    assert "group_vars/balancer.yml is for the group `balancer`, which the inventory does not have" in found
    assert "host_vars/tow.yml is for the host `tow`" in found
    assert "topology_address is set in host_vars/tow.yml, but it is computed" in found


def test_example_inventory_keeps_its_settings_where_they_are_read() -> None:
    folder = PROJECT / "inventories" / "example" / "group_vars"
    assert (folder / "all.yml").is_file()
    assert inventory_problems({**GROUPS, "all": HOSTS}, [str(folder.parent)]) == []


@pytest.mark.parametrize(
    ("version", "moving", "sentence"),
    [
        ("", False, ""),
        ("1.5", False, ""),
        ("sha256:" + "0" * 64, False, ""),
        (1.5, False, "version is 1.5, which is no text: write -e version=1.5, or put it in quotes."),
        ("a b", True, "version is `a b`, which is neither a tag (1.5) nor a digest (sha256:...)."),
        ("latest", "false", "version is `latest`, which moves"),
        ("Nightly", False, "version is `Nightly`, which moves"),
        ("latest", "true", ""),
    ],
)
def test_version_on_the_command_line_is_one_that_stays(version: object, moving: object, sentence: str) -> None:
    found = version_problem(version, moving)
    assert found.startswith(sentence)
    assert bool(found) is bool(sentence)
