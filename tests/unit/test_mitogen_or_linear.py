"""The strategy that uses Mitogen: when it does, and the SSH commands that come out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ansible.collections
import ansible_mitogen.affinity
import ansible_mitogen.module_finder
import mitogen.master
import mitogen.parent
import mitogen.ssh
import pytest
import yaml
from ansible import release
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible.plugins.loader import filter_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.vars.hostvars import HostVars
from jinja2 import Environment, TemplateSyntaxError

import mitogen_or_linear

PROJECT = Path(__file__).resolve().parents[2]

Compiled = tuple[type[Environment], list[object], SimpleNamespace]


@pytest.mark.parametrize(
    ("core", "mitogen_version", "reason"),
    [
        ("2.21.5", "0.3.54", ""),
        ("2.19.14", "0.3.54", ""),
        ("2.22.0b1", "0.3.54", "Mitogen 0.3.54 is tested with ansible-core up to 2.21, and this is 2.22.0b1"),
        ("3.0.0", "0.3.54", "Mitogen 0.3.54 is tested with ansible-core up to 2.21, and this is 3.0.0"),
        ("2.21.5", None, "Mitogen is not installed (pip install mitogen)"),
    ],
)
def test_mitogen_is_used_where_it_is_known_to_work(core: str, mitogen_version: str | None, reason: str) -> None:
    assert mitogen_or_linear.reason_against_mitogen(core, mitogen_version) == reason


def test_the_known_core_is_that_of_the_locked_mitogen() -> None:
    # Whoever renews the lock looks up what the new one is tested with.
    locked = re.findall(r"^mitogen==(\S+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert re.findall(r"Mitogen (0\.\S+) is tested with", Path(mitogen_or_linear.__file__).read_text()) == locked


@pytest.fixture(autouse=True)
def _no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the Python program behind the host's name, which needs a whole Mitogen."""
    monkeypatch.setattr(mitogen.parent.Connection, "get_boot_command", lambda _: ["program"])


def command(**options: Any) -> list[str]:
    """Return the SSH command that Mitogen makes, up to the host's name."""
    connection = mitogen.ssh.Connection(
        mitogen.ssh.Options("host", max_message_size=1, identities_only=False, **options), router=None
    )
    made: list[str] = connection.get_boot_command()
    assert made[-2:] == ["host", "program"]
    return made[:-2]


def value(words: list[str], option: str) -> str | None:
    """Return what SSH takes for an option: the first value that it is given."""
    values = [word for word in words if re.match(rf"{option}[ =]", word)]
    return re.split("[ =]", values[0], maxsplit=1)[1] if values else None


@pytest.mark.parametrize("check", ["enforce", "ignore"])
def test_options_of_the_inventory_win(check: str) -> None:
    wanted = {
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": "/known",
        "Compression": "no",
        "ServerAliveInterval": "1",
        "LogLevel": "VERBOSE",
    }
    arguments = [word for name, setting in wanted.items() for word in ("-o", f"{name}={setting}")]
    words = command(check_host_keys=check, ssh_args=arguments)
    assert {name: value(words, name) for name in wanted} == wanted


def test_without_a_word_ssh_itself_decides_about_host_keys() -> None:
    assert value(command(check_host_keys="enforce"), "StrictHostKeyChecking") is None


def test_host_key_checking_can_be_switched_off() -> None:
    words = command(check_host_keys="ignore", ssh_args=["-o", "ControlMaster=auto"])
    assert value(words, "StrictHostKeyChecking") == "no"
    assert value(words, "UserKnownHostsFile") == "/dev/null"


def test_user_port_and_key_stay_before_the_options() -> None:
    words = command(username="ops", port=2222, identity_file="/key", ssh_args=["-o", "User=other", "-J", "bastion"])
    assert words[:7] == ["ssh", "-l", "ops", "-p", "2222", "-i", "/key"]
    assert words.index("User=other") > words.index("ops")
    assert words[words.index("-J") + 1] == "bastion"
    # Nobody is there to be asked.
    assert value(words, "BatchMode") == "yes"


def test_only_its_own_deprecation_is_hidden() -> None:
    shown: list[str] = []
    display = SimpleNamespace(deprecated=lambda msg, **_: shown.append(msg))
    mitogen_or_linear.hide_own_deprecation(display)
    display.deprecated(msg="Use of strategy plugins not included in ansible.builtin are deprecated and do not carry …")
    display.deprecated("Another thing is deprecated.", version="2.23")
    assert shown == ["Another thing is deprecated."]
    assert "deprecation_warnings" not in (PROJECT / "ansible.cfg").read_text()


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    """A class of environments that compiles once, what it has compiled, and what Ansible sets meanwhile."""
    seen: list[object] = []
    context = SimpleNamespace(escape_backslashes=False)

    class Counting(Environment):
        def compile(self, source: Any, *args: Any, **options: Any) -> Any:
            seen.append(source)
            return super().compile(source, *args, **options)

    compiling = SimpleNamespace(current=lambda **_: context)
    mitogen_or_linear.compile_once(Counting, compiling, str(tmp_path))
    return Counting, seen, context


def test_threads_write_no_code_into_files_and_forks_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(Environment):
        pass

    mitogen_or_linear.compile_once(Plain, SimpleNamespace(current=lambda **_: None), str(tmp_path), threads=True)
    codes = [Plain().compile("{{ word }}!") for _ in range(2)]
    assert codes[0] is codes[1]
    assert list(tmp_path.iterdir()) == []
    # As in a fork of this process, which has what was compiled before it.
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    assert Plain().compile("{{ word }}!") is codes[0]
    Plain().compile("{{ word }}?")
    assert len(list(tmp_path.iterdir())) == 1


def test_template_is_compiled_once_in_a_run(compiled: Compiled) -> None:
    environment, seen, _ = compiled
    # Each in an environment of its own, as in a process of its own.
    texts = [environment().from_string("{{ word }}!").render(word=word) for word in ("a", "b")]
    assert (texts, len(seen)) == (["a!", "b!"], 1)
    values = [environment().compile_expression(text)(word="a") for text in ("word", "word", "word ~ '?'")]
    assert (values, len(seen)) == (["a", "a", "a?"], 3)


def test_what_is_compiled_otherwise_is_another_template(compiled: Compiled) -> None:
    environment, seen, context = compiled
    environment().from_string("[[ 1 ]]")
    context.escape_backslashes = True
    environment().from_string("[[ 1 ]]")
    other = environment().overlay(variable_start_string="[[", variable_end_string="]]")
    assert other.from_string("[[ 1 ]]").render() == "1"
    assert environment().from_string("[[ 1 ]]").render() == "[[ 1 ]]"
    assert len(seen) == 3


def test_template_that_is_wrong_is_wrong_each_time(compiled: Compiled) -> None:
    environment, seen, _ = compiled
    for _ in range(2):
        with pytest.raises(TemplateSyntaxError):
            environment().from_string("{{ word")
    assert len(seen) == 2


def test_hosts_are_read_once_by_a_task_and_anew_by_the_run() -> None:
    reads = count(1)

    class Hosts:
        def raw_get(self, host_name: str) -> str:
            return f"{host_name} {next(reads)}"

    running: list[Any] = []
    tasks = SimpleNamespace(current=lambda **_: running[-1] if running else None)
    mitogen_or_linear.read_hosts_once(Hosts, tasks)
    hosts = Hosts()
    assert [hosts.raw_get("one") for _ in range(2)] == ["one 1", "one 2"]
    running.append(SimpleNamespace())
    assert [hosts.raw_get(name) for name in ("one", "two", "one")] == ["one 3", "two 4", "one 3"]
    running.append(SimpleNamespace())
    assert hosts.raw_get("one") == "one 5"


def test_names_that_are_no_plugins_are_looked_for_once() -> None:
    asked: list[str] = []
    known = {"ours": "a plugin"}

    def find(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(object=known.get(name))

    loader = SimpleNamespace(get_with_context=find, _cached_non_collection_wrappers=known)
    mitogen_or_linear.look_once(loader)
    look = loader.get_with_context
    assert [look(name).object for name in ("list", "ours", "list", "some.where.list", "some.where.list")] == [
        None,
        "a plugin",
        None,
        None,
        None,
    ]
    assert asked == ["list", "ours", "some.where.list", "some.where.list"]
    # A role that comes later brings one of that name.
    known["list"] = "another plugin"
    assert look("list").object == "another plugin"


def test_mitogen_ties_nothing_to_a_processor() -> None:
    assert type(ansible_mitogen.affinity.policy) is ansible_mitogen.affinity.Policy


def test_ansible_has_what_is_taken_from_it() -> None:
    assert callable(HostVars.raw_get)
    assert callable(mitogen_or_linear.context_of_tasks().current)
    assert hasattr(filter_loader, "_cached_non_collection_wrappers")
    assert list(mitogen_or_linear.compiler()) == [AnsibleEnvironment, _TemplateCompileContext]


def test_collections_are_those_that_ansible_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ansible.collections.list", None)
    monkeypatch.setattr(ansible.collections, "list", None, raising=False)
    command = ["ansible-galaxy", "collection", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    monkeypatch.setattr(type(AnsibleCollectionConfig), "collection_paths", [str(Path(path).parent) for path in listed])
    mitogen_or_linear.list_collections_once()
    folders = {os.fsencode(Path(path) / name.replace(".", "/")) for path, names in listed.items() for name in names}
    assert len(folders) > 50
    assert {*ansible.collections.list.list_collection_dirs()} == folders


def test_run_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False}]))
    said = subprocess.run(
        [sys.executable, "-v", "-m", "ansible.cli.playbook", "-i", "localhost,", tmp_path / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "0"},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stderr
    assert "import 'ansible_mitogen.planner'" in said
    assert "import 'ansible.cli.galaxy'" not in said


def test_run_in_threads_writes_no_template_into_a_file(tmp_path: Path) -> None:
    found = "{{ lookup('pipe', \"find " + str(tmp_path) + " -name '__jinja2_*'\").splitlines() | length }} files"
    tasks = [{"ansible.builtin.debug": {"msg": text}} for text in ("{{ 1 + 1 }}", found)]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    said = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", tmp_path / "play.yml"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path),
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    assert (re.search(r"\b0 files", said) is not None) == mitogen_or_linear.runs_in_threads(release.__version__), said


def test_what_modules_share_is_compiled_once_for_its_imports(tmp_path: Path) -> None:
    shared = tmp_path / "module_utils"
    shared.mkdir()
    (shared / "common.py").write_text("import os\n")
    modules = [tmp_path / "one.py", tmp_path / "two.py"]
    for module in modules:
        module.write_text(f"# {module}\nfrom ansible.module_utils import common\n")
    # As the strategy has set it up.
    finder = ansible_mitogen.module_finder
    assert mitogen.master.compile is mitogen_or_linear.code_of_file
    finder.compile.cache_clear()
    for module in modules:
        found = finder.scan(module_name=module.stem, module_path=str(module), search_path=(str(shared),))
        assert [(name, path) for name, path, _ in found] == [("ansible.module_utils.common", str(shared / "common.py"))]
    assert finder.compile.cache_info()[:2] == (1, 3)


def test_code_of_a_file_is_that_of_its_source(tmp_path: Path) -> None:
    module = tmp_path / "one.py"
    module.write_text("import os\n")
    for _ in range(2):
        code = mitogen_or_linear.code_of_file(module.read_bytes(), str(module), "exec")
        assert code.co_names == ("os",)
    # Changed since, which Python sees by its time or size.
    module.write_text("import sys, json\n")
    assert mitogen_or_linear.code_of_file(module.read_bytes(), str(module), "exec").co_names == ("sys", "json")
    # Kept, but damaged behind its head.
    for kept in tmp_path.rglob("*.pyc"):
        kept.write_bytes(kept.read_bytes()[:16] + b"\xff" * 8)
    assert mitogen_or_linear.code_of_file(module.read_bytes(), str(module), "exec").co_names == ("sys", "json")
    # Of no file that can be read.
    assert mitogen_or_linear.code_of_file(b"import re\n", str(tmp_path / "none.py"), "exec").co_names == ("re",)
    with pytest.raises(SyntaxError):
        mitogen_or_linear.code_of_file(b"import", str(tmp_path / "none.py"), "exec")
