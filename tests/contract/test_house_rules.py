"""The project's own rules about its files (docs/development.md), so that breaking one fails a test."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from settings import options

PROJECT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir())
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
TEMPLATES = sorted(str(path.relative_to(PROJECT)) for path in PROJECT.glob("roles/*/templates/*.j2"))
# Formats whose tool has no checker for a single file.
WITHOUT_VALIDATION = {
    "roles/docker/templates/restart.conf.j2",
    "roles/firewall/templates/nftables.conf.j2",
    "roles/grafana/templates/files.yml.j2",
    "roles/grafana/templates/grafana.ini.j2",
    "roles/grafana/templates/prometheus.yml.j2",
    "roles/grafana/templates/restart.conf.j2",
    "roles/haproxy/templates/evenkeel.conf.j2",
    # The check of haproxy.cfg, which comes next, reads them.
    "roles/haproxy/templates/certificates.list.j2",
    "roles/haproxy/templates/services.map.j2",
}
# House limits of lines by kind of file.
LIMITS = {
    "tasks/main.yml": 40,
    "tasks/*.yml": 80,
    "defaults/main.yml": 80,
    "handlers/main.yml": 15,
    "templates/**/*.j2": 80,
}


def load(path: str) -> Any:
    return yaml.safe_load((PROJECT / path).read_text())


def tasks_of(role: str) -> Iterator[dict[str, Any]]:
    """Yield every task of a role, those inside blocks too."""
    pending = [
        task for path in (PROJECT / "roles" / role / "tasks").glob("*.yml") for task in yaml.safe_load(path.read_text())
    ]
    while pending:
        task = pending.pop()
        yield task
        for key in ("block", "rescue", "always"):
            pending += task.get(key, [])


@pytest.mark.parametrize("role", ROLES)
def test_specified_arguments_are_the_defaults(role: str) -> None:
    defaults = load(f"roles/{role}/defaults/main.yml")
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(options) == set(defaults)
    for name, option in options.items():
        assert option["description"].endswith("."), name
        if not option.get("required"):
            assert option["default"] == defaults[name], name


def test_root_group_vars_set_nothing_that_users_set() -> None:
    # They beat the inventory's group_vars of the same level, without a word.
    for path in (PROJECT / "group_vars").rglob("*.yml"):
        for name in yaml.safe_load(path.read_text()):
            assert name.startswith("topology_"), f"{path}: {name}"


def test_settings_are_checked_on_the_hosts_where_their_roles_run() -> None:
    wiring = load("group_vars/all/topology.yml")["topology_places"]
    ran: dict[str, str] = {}
    for play in load("playbooks/site.yml"):
        for role in play.get("roles", []):
            ran[role["role"] if isinstance(role, dict) else role] = play["hosts"]
    assert set(ran) <= set(wiring)
    for role, hosts in ran.items():
        place = "topology_monitoring" if "monitoring" in hosts else f"groups['{hosts}']"
        place = "topology_site" if "backends:balancers" in hosts else place
        assert place in wiring[role], role


@pytest.mark.parametrize("role", ["apt_repository", "release_binary"])
def test_building_block_is_passed_all_it_takes(role: str) -> None:
    root = PROJECT / "roles" / role
    text = "".join(path.read_text() for kind in ("tasks", "templates", "vars") for path in root.rglob(f"{kind}/*"))
    left = set(re.findall(rf"register: ({role}_\w+)|set_fact:\n\s+({role}_\w+):", text))
    known = {name for names in left for name in names} | set(load(f"roles/{role}/defaults/main.yml"))
    takes = set(re.findall(rf"(?<![\w]){role}_\w+", text)) - known
    calls = [
        task
        for other in ROLES
        for task in tasks_of(other)
        if task.get("ansible.builtin.import_role", {}).get("name") == role
    ]
    assert takes
    assert calls
    assert all(set(call["vars"]) == takes for call in calls)
    # Its specification names nothing, and whatever the tags, checking it would evaluate the conditions around it.
    assert all(call["ansible.builtin.import_role"]["rolespec_validate"] is False for call in calls)


@pytest.mark.parametrize("role", ROLES)
def test_numbers_and_truths_from_the_command_line_are_no_texts(role: str) -> None:
    # `-e name=3` and `-e name=false` are texts: "3" * 2 is "33", and "false" is true.
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    root = PROJECT / "roles" / role
    kinds = ("tasks", "templates", "vars", "defaults", "faults")
    files = [path for kind in kinds for path in root.glob(f"{kind}/**/*.*")]
    sign = r"(?:[*/%<>]|[!=]=|(?<= )[+-](?= ))"
    for path in files:
        text = path.read_text()
        for name, option in options.items():
            if option["type"] in {"int", "float"}:
                bare = [rf"\b{name} *{sign}", rf"{sign} *\(?{name}\b(?! *\| *(int|float))", rf"{{% if {name} %}}"]
            elif option["type"] == "bool":
                bare = [rf"(\bif|\band|\bor|\bnot|when:) {name}\b(?! *\| *bool)"]
            else:
                continue
            assert not any(re.search(pattern, text) for pattern in bare), f"{path}: {name}"


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_roles_name(role: str) -> None:
    names = set(load(f"roles/{role}/defaults/main.yml"))
    assert all(name.startswith(f"{role}_") for name in names)
    internal = PROJECT / "roles" / role / "vars" / "main.yml"
    if internal.exists():
        assert all(name.startswith(f"__{role}_") for name in yaml.safe_load(internal.read_text()))


@pytest.mark.parametrize("role", ROLES)
def test_role_names_no_inventory_group(role: str) -> None:
    root = PROJECT / "roles" / role
    for path in root.rglob("*"):
        # Files are copied as they are; Ansible reads no variable in them (and Prometheus' rules come in groups too).
        if path.suffix in {".yml", ".j2"} and root / "files" not in path.parents:
            assert not re.search(r"\bgroups\b|\bhostvars\b|\bgroup_names\b", path.read_text()), path


@pytest.mark.parametrize("role", ROLES)
def test_role_has_a_short_readme(role: str) -> None:
    text = (PROJECT / "roles" / role / "README.md").read_text()
    assert text.startswith(f"# {role}\n")
    assert len(text.splitlines()) <= 50


def test_no_key_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ansible warns of it in every run, in what is merged by `<<` too, where yamllint sees nothing.
    monkeypatch.setenv("ANSIBLE_DUPLICATE_YAML_DICT_KEY", "error")
    folders = ("roles", "playbooks", "group_vars", "inventories", "molecule")
    paths = [*PROJECT.glob("*.yml"), *(path for folder in folders for path in (PROJECT / folder).rglob("*.yml"))]
    for path in paths:
        DataLoader().load_from_file(str(path))


@pytest.mark.parametrize("role", ROLES)
def test_files_keep_their_size(role: str) -> None:
    root = PROJECT / "roles" / role
    for pattern, limit in LIMITS.items():
        for path in root.glob(pattern):
            assert len(path.read_text().splitlines()) <= limit, path


@pytest.mark.parametrize("role", ROLES)
def test_versions_are_quoted(role: str) -> None:
    for name, value in load(f"roles/{role}/defaults/main.yml").items():
        if name.endswith("_version"):
            assert isinstance(value, str), name
            assert value != "latest", name


@pytest.mark.parametrize("role", ROLES)
def test_commands_say_whether_they_change(role: str) -> None:
    for task in tasks_of(role):
        if {"ansible.builtin.command", "ansible.builtin.shell"} & set(task):
            assert "changed_when" in task, task["name"]


def test_what_check_mode_can_not_simulate_is_said() -> None:
    telling = set()
    for role in ROLES:
        tasks = yaml.safe_load((PROJECT / "roles" / role / "tasks" / "main.yml").read_text())
        names = [task["name"] for task in tasks]
        if "Say what was not simulated" in names:
            place = names.index("Say what was not simulated")
            told, before = tasks[place].get("when", ""), tasks[place - 1]
            # Either it has the condition itself, or the role ends before it in every other case.
            if before.get("ansible.builtin.meta") == "end_role":
                assert f"not __{role}_pending" in before["when"], role
            else:
                assert "pending" in told or "ansible_check_mode" in told, role
            telling.add(role)
    assert telling >= {"backend_app", "cpu_monitor", "docker", "firewall", "grafana", "haproxy", "prometheus"}


@pytest.mark.parametrize("role", ROLES)
def test_apt_waits_for_the_lock(role: str) -> None:
    for task in tasks_of(role):
        if "ansible.builtin.apt" in task:
            assert "lock_timeout" in task["ansible.builtin.apt"], task["name"]


def test_site_looks_at_the_hosts_before_it_changes_any() -> None:
    assert load("playbooks/site.yml")[0]["ansible.builtin.import_playbook"] == "look.yml"
    plays = load("playbooks/look.yml")
    # The roles keep copies of what is adopted, which check mode leaves to the role itself.
    looks = [task for play in plays if play.get("check_mode") for task in play["tasks"]]
    # What one finds must not keep the others from being told.
    assert all(task["rescue"] == looks[0]["rescue"] for task in looks)
    roles = [each["ansible.builtin.import_role"] for task in looks for each in task["block"]]
    with_preflight = {role for role in ROLES if (PROJECT / "roles" / role / "tasks" / "preflight.yml").exists()}
    assert {role["name"] for role in roles if role["tasks_from"] == "preflight"} == with_preflight
    report = plays[-1]
    assert report["any_errors_fatal"]
    assert report["tasks"][0]["ansible.builtin.import_role"]["tasks_from"] == "report"


def test_roll_out_looks_whether_its_balancers_answered() -> None:
    # Hosts out of reach do not end its plays (playbooks/rolling.yml), so whoever does not look goes on without them.
    for path in sorted((PROJECT / "roles" / "rolling_update" / "tasks").glob("*.yml")):
        tasks = [task for each in yaml.safe_load(path.read_text()) for task in each.get("block", [each])]
        for task, following in zip(tasks, [*tasks[1:], {}], strict=True):
            if "delegate_to" in task and not task.get("ignore_errors"):
                assert following.get("ansible.builtin.import_tasks") == "assert_reachable.yml", task["name"]
                assert task["register"] == "__rolling_update_step", task["name"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_template_says_who_manages_it(template: str) -> None:
    first = (PROJECT / template).read_text().splitlines()[0]
    assert first == "{{ ansible_managed | comment }}"


@pytest.mark.parametrize("template", TEMPLATES)
def test_template_is_validated_before_it_goes_live(template: str) -> None:
    _, role, _, name = template.split("/")
    # The second masks secrets in the diff of the first.
    tasks = [
        task.get(module, {}) for task in tasks_of(role) for module in ("ansible.builtin.template", "masked_template")
    ]
    uses = [task for task in tasks if task.get("src") == name]
    assert uses, "no task deploys it"
    assert all("validate" in use for use in uses) or template in WITHOUT_VALIDATION


@pytest.mark.parametrize("role", ROLES)
def test_downloads_go_through_the_sites_proxy(role: str) -> None:
    def downloads(task: dict[str, Any]) -> bool:
        building_block = task.get("ansible.builtin.import_role", {}).get("name") in {"apt_repository", "release_binary"}
        return building_block or bool({"apt_package", "ansible.builtin.get_url"} & task.keys())

    # A building block gets its caller's.
    if role in {"apt_repository", "release_binary"}:
        return
    main = load(f"roles/{role}/tasks/main.yml")
    covered = {task.get("ansible.builtin.import_tasks") for task in main if "environment" in task}
    for path in (PROJECT / "roles" / role / "tasks").glob("*.yml"):
        for task in filter(downloads, yaml.safe_load(path.read_text())):
            assert "environment" in task or path.name in covered, task["name"]
            assert load(f"roles/{role}/defaults/main.yml")[f"{role}_proxy"] == "{{ site_proxy | default('') }}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_has_tests(scenario: str) -> None:
    # Molecule passes a scenario without tests.
    files = list((PROJECT / "molecule" / scenario / "tests").glob("test_*.py"))
    assert any(
        re.search(r"^def test_\w+\(.*scenario|^def test_\w+\(.*(host|url|address)", file.read_text(), re.MULTILINE)
        for file in files
    )


def passed(tasks: Any) -> Iterator[str]:
    """Yield the names that tasks, and what they hold, pass on or set."""
    for task in tasks if isinstance(tasks, list) else []:
        yield from task.get("vars", {})
        yield from task.get("ansible.builtin.set_fact", {})
        yield task.get("loop_control", {}).get("loop_var", "")
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from passed(task.get(part))


def test_no_setting_is_passed_on_under_its_own_name() -> None:
    # What the command line sets (-e) would beat it, without a word.
    files = [*PROJECT.glob("roles/*/tasks/**/*.yml"), *PROJECT.glob("playbooks/**/*.yml")]
    settings = {name for entries in options().values() for name in entries}
    found = [
        (str(path.relative_to(PROJECT)), name)
        for path in files
        if path.parent.name != "meta"
        for name in passed(yaml.safe_load(path.read_text()))
        if name in settings
    ]
    assert found == []


def test_every_role_that_runs_a_service_has_a_scenario() -> None:
    # A building block notifies its caller's handlers and has none of its own.
    with_service = {path.parts[-3] for path in PROJECT.glob("roles/*/handlers/main.yml")}
    # Certificates are for both balancers of that one.
    assert with_service - {"acme"} | {"tls"} <= set(SCENARIOS)


def test_fallbacks_of_the_topology_are_the_roles_defaults() -> None:
    wiring = (PROJECT / "group_vars" / "all" / "topology.yml").read_text()
    found = re.findall(r"topology_endpoints\(hostvars, '(\w+)', (\d+), topology_resolved\)", wiring)
    assert {name for name, _ in found} == {
        "backend_app_port",
        "grafana_port",
        "haproxy_bind_port",
        "haproxy_stats_port",
        "prometheus_port",
        "pushgateway_port",
    }
    for name, port in found:
        role = next(role for role in ROLES if name.startswith(f"{role}_"))
        assert load(f"roles/{role}/defaults/main.yml")[name] == int(port)
    others = dict(re.findall(r"map\(attribute='(\w+)', default='?(\w+)'?\)", wiring))
    assert set(others) == {"backend_app_threads", "cpu_monitor_interval", "haproxy_check_interval"}
    for name, value in others.items():
        role = next(role for role in ROLES if name.startswith(f"{role}_"))
        assert str(load(f"roles/{role}/defaults/main.yml")[name]) == value


def test_what_is_made_of_other_hosts_is_read_of_no_other_host() -> None:
    """What is read through ``hostvars`` knows nothing of ``hostvars`` itself: a default would stand in, unseen."""
    files = sorted((PROJECT / "group_vars").rglob("*.yml"))
    values = {name: value for path in files for name, value in (yaml.safe_load(path.read_text()) or {}).items()}
    # What matters in the container alone is left out of what other hosts are told.
    del values["topology_guide_api"]["env"]
    made = {name: str(value) for name, value in values.items()}
    of_others = {name for name, text in made.items() if re.search(r"\bhostvars\b", text)}
    while more := {
        name for name, text in made.items() if name not in of_others and set(re.findall(r"\w+", text)) & of_others
    }:
        of_others |= more
    assert "topology_backends" in of_others
    folders = ("group_vars", "playbooks", "roles", "plugins")
    texts = [
        path for folder in folders for path in (PROJECT / folder).rglob("*") if path.suffix in {".yml", ".py", ".j2"}
    ]
    reads = r"hostvars\[[^]]+(?:\[[^]]*\][^]]*)?\](?:\.|\[\"|\['|\.get\(\")(\w+)|extract', hostvars, '(\w+)"
    read = {name for path in texts for names in re.findall(reads, path.read_text()) for name in names}
    assert {"deploy_batch", "topology_services_told"} <= read
    assert read & of_others == set()


def test_what_playbooks_declare_is_read_somewhere() -> None:
    specs = load("playbooks/meta/argument_specs.yml")["argument_specs"].values()
    declared = {name for spec in specs for name in spec["options"]}
    assert declared
    sources = [
        *PROJECT.glob("playbooks/**/*.yml"),
        *PROJECT.glob("group_vars/**/*.yml"),
        *PROJECT.glob("roles/*/*/*.yml"),
    ]
    text = "\n".join(path.read_text() for path in sources if path.name != "argument_specs.yml")
    assert {name for name in declared if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize(
    ("room", "known"),
    [
        ("record", {"record"}),
        ("analysis", {"record", "analysis"}),
        ("report", {"record", "analysis", "report"}),
        ("run", {"record", "analysis", "run"}),
    ],
)
def test_rooms_of_chaos_know_only_those_before_them(room: str, known: set[str]) -> None:
    texts = [path.read_text() for path in (PROJECT / "src/evenkeel/chaos" / room).glob("*.py")]
    assert {name for text in texts for name in re.findall(r"from evenkeel\.chaos(?:\.| import )(\w+)", text)} <= known


def test_playbooks_reach_the_group_vars() -> None:
    link = PROJECT / "playbooks" / "group_vars"
    assert link.is_symlink()
    assert link.resolve() == PROJECT / "group_vars"


def collections_folder() -> Path:
    """Return the folder of the installed collections, which the ansible package brings."""
    spec = importlib.util.find_spec("ansible_collections")
    assert spec
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def test_collections_fit_those_installed() -> None:
    for item in load("requirements.yml")["collections"]:
        manifest = json.loads((collections_folder() / item["name"].replace(".", "/") / "MANIFEST.json").read_text())
        assert manifest["collection_info"]["version"] in SpecifierSet(item["version"]), item["name"]


def test_collections_are_those_used() -> None:
    # Modules, filters, lookups and all else that carries a collection's name, wherever Ansible reads it.
    folders = ("roles", "playbooks", "group_vars", "inventories", "molecule", "plugins")
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*")] + list(PROJECT.glob("*.yml"))
    found = {
        name
        for path in files
        if path.suffix in {".yml", ".yaml", ".j2", ".py"} and path.name != "requirements.yml"
        # ansible-core's own package ansible.utils, which Python imports, has a collection's name too.
        for name in re.findall(r"\b(?<!from )([a-z_]+\.[a-z0-9_]+)\.[a-z0-9_]+\b", path.read_text())
    }
    used = {name for name in found if (collections_folder() / name.replace(".", "/")).is_dir()}
    assert used == {item["name"] for item in load("requirements.yml")["collections"]}


def test_locks_name_no_index() -> None:
    for path in [PROJECT / "requirements.txt", *PROJECT.glob("roles/**/requirements.txt")]:
        text = path.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        pinned = re.findall(r"^([a-z0-9-]+)==[^ ]+ (?:; (.+) )?\\$", text, re.MULTILINE)
        assert pinned
        for name in {name for name, _ in pinned}:
            markers = [Marker(marker) if marker else None for each, marker in pinned if each == name]
            for version in ("3.11.2", "3.12.0", "3.13.0", "3.14.0"):
                environment = {"python_full_version": version, "python_version": version.rpartition(".")[0]}
                fitting = [marker for marker in markers if marker is None or marker.evaluate(environment)]
                assert len(fitting) <= 1, f"{len(fitting)} versions of {name} for Python {version}"


def test_report_of_a_fault_notes_no_setting_that_may_hold_a_secret() -> None:
    play = next(play for play in load("playbooks/chaos.yml") if play["name"] == "Chaos | Settings")

    def trusted(value: Any) -> Any:
        return trust_as_template(value) if isinstance(value, str) else value

    init_plugin_loader()
    variables = {name: trusted(value) for name, value in play["vars"].items()} | {"topology_project": str(PROJECT)}
    known = set(Templar(loader=DataLoader(), variables=variables).template(trusted("{{ known }}")))
    entries = {
        name: option
        for role in ("haproxy", "backend_app")
        for name, option in load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"].items()
    }
    secret = {name for name, option in entries.items() if option.get("no_log")}
    assert {"backend_app_registries", "backend_app_services"} <= secret
    assert known == set(entries) - secret
