"""The linear strategy, with Mitogen where it is installed and knows this ansible-core.

Mitogen keeps one Python process on each host for the whole run, where Ansible sends and starts a new one for every
task. A second run of the site costs a fifth of the CPU, and takes a quarter of the time. Without Mitogen everything
works the same, slower.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import ansible.collections
from ansible import constants
from ansible.plugins.loader import filter_loader, strategy_loader, test_loader
from ansible.plugins.strategy import linear
from ansible.release import __version__ as core
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.display import Display
from ansible.vars.hostvars import HostVars
from jinja2.bccache import FileSystemBytecodeCache

# What Mitogen 0.3.54 is tested with by its authors. It takes any later core too, and fails in the middle of a run.
NEWEST_CORE = (2, 21)
# What mitogen_threads.py has its knowledge of worker processes from.
FIRST_CORE_WITH_THREADS = (2, 21)

# Mitogen's own preferences, which an inventory's SSH options may replace.
PREFERENCES = {"LogLevel", "Compression", "ServerAliveInterval", "ServerAliveCountMax", "StrictHostKeyChecking"}
PREFERENCES |= {"UserKnownHostsFile", "GlobalKnownHostsFile"}


def numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, such as ``2.21.5`` or ``2.22.0b1``."""
    return tuple(int(part) for part in version.split(".")[:2])


def reason_against_mitogen(version: str, mitogen: str | None) -> str:
    """Return why Mitogen is not used, or nothing.

    Args:
        version: of ansible-core.
        mitogen: the installed version of Mitogen, None where there is none.
    """
    if mitogen is None:
        return "Mitogen is not installed (pip install mitogen)"
    if numbers(version) > NEWEST_CORE:
        known = ".".join(map(str, NEWEST_CORE))
        return f"Mitogen {mitogen} is tested with ansible-core up to {known}, and this is {version}"
    return ""


def runs_in_threads(version: str) -> bool:
    """Return whether tasks can run in threads of this process, with this version of ansible-core."""
    return numbers(version) >= FIRST_CORE_WITH_THREADS


def put_options_first(build: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """Wrap Mitogen's maker of SSH commands: the inventory's options come before Mitogen's preferences.

    SSH takes the first value of an option that it is given, so Mitogen's won. And without a word from the user, it is
    for SSH's own settings to say what becomes of unknown host keys, as in plain Ansible.
    """

    @functools.wraps(build)
    def get_boot_command(connection: Any) -> list[str]:
        options = connection.options
        wanted, mark = options.ssh_args or [], object()
        options.ssh_args = [mark]
        try:
            command: list[Any] = build(connection)
        finally:
            options.ssh_args = wanted
        place = command.index(mark)
        kept: list[str] = [command[0]]
        preferences: list[str] = []
        words = iter(command[1:place])
        for word in words:
            pair = [word, next(words)] if word in {"-o", "-l", "-p", "-i"} else [word]
            preferred = word == "-o" and pair[1].split()[0] in PREFERENCES
            if pair[1:] != ["StrictHostKeyChecking yes"]:
                (preferences if preferred else kept).extend(pair)
        return [*kept, *wanted, *preferences, *command[place + 1 :]]

    return get_boot_command


def hide_own_deprecation(display: Any) -> None:
    """Keep ansible-core's notice about strategy plugins, said of this one at every run, off the screen."""
    show = display.deprecated

    @functools.wraps(show)
    def deprecated(msg: str, *args: Any, **kwargs: Any) -> None:
        # Ansible looks up the call stack for the plugin that is at fault: not this one.
        _skip_stackwalk = True
        if not msg.startswith("Use of strategy plugins not included in ansible.builtin"):
            show(msg, *args, **kwargs)

    display.deprecated = deprecated


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_once() -> None:
    """Load what tasks need into this process: where each task and host has a fork of it, that would load all again."""
    for loader in (filter_loader, test_loader):
        for _ in loader.all():
            pass
        look_once(loader)


def list_collections_once() -> None:
    """Have all collections, a hundred, listed once: Mitogen does it in every task whose module is a collection's.

    This is in place of Ansible's own list, which brings all of `ansible-galaxy` along: an eighth of a run's start.
    """
    paths = [Path(path) / "ansible_collections" for path in AnsibleCollectionConfig.collection_paths]
    found = [os.fsencode(folder) for path in paths for folder in path.glob("*/*") if folder.is_dir()]
    lists: Any = ModuleType("ansible.collections.list")
    lists.list_collection_dirs = functools.partial(list, found)
    sys.modules[lists.__name__] = ansible.collections.list = lists


def look_once(loader: Any) -> None:
    """Have names of Jinja's own filters and tests looked for once among Ansible's, which are in many files.

    Args:
        loader: of Ansible's filters or tests.
    """
    find = loader.get_with_context
    missing: dict[str, Any] = {}

    @functools.wraps(find)
    def get_with_context(name: str, *args: Any, **options: Any) -> Any:
        # A role may bring some along. These are in the loader's cache, which is then made anew.
        known = loader._cached_non_collection_wrappers
        if name in missing and known and name not in known:
            return missing[name]
        found = find(name, *args, **options)
        if found.object is None and "." not in name:
            missing[name] = found
        return found

    loader.get_with_context = get_with_context


def context_of_tasks() -> Any:
    """Return what Ansible has around a task that runs, in its process or thread."""
    from ansible._internal._task import TaskContext

    return TaskContext


def compiler() -> tuple[Any, Any]:
    """Return Ansible's class of Jinja environments, and what it sets around compiling."""
    from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext

    return AnsibleEnvironment, _TemplateCompileContext


def compile_once(environment: Any, compiling: Any, folder: str, *, threads: bool = False) -> None:
    """Have each template compiled once in a run: each process, of one task and host, would compile all that it reads.

    Ansible has Jinja fold no constants, so what comes out follows from the source and the environment's options alone.

    Args:
        environment: the class of Ansible's Jinja environments.
        compiling: what Ansible sets around compiling, with the option ``escape_backslashes``.
        folder: where processes keep the code for each other, of this run and this user alone: whoever can write there
            can run code.
        threads: whether this process runs the tasks itself, and so writes no file. Its forks do.
    """
    cache = FileSystemBytecodeCache(folder)
    # What this process has read: of many hosts' variables it reads the same ones again and again.
    codes: dict[str, Any] = {}
    build = environment.compile
    alone = os.getpid() if threads else None

    @functools.wraps(build)
    def compile_(self: Any, source: Any, name: Any = None, filename: Any = None, **options: Any) -> Any:
        # An overlay has other delimiters or other treatment of line ends.
        if self.overlayed or any(options.values()):
            return build(self, source, name, filename, **options)
        context = compiling.current(optional=True)
        # An expression comes as a tree, which shows all that is in it.
        key = repr((source, name, context and context.escape_backslashes))
        if key not in codes and os.getpid() == alone:
            codes[key] = build(self, source, name, filename)
        elif key not in codes:
            bucket = cache.get_bucket(self, key, filename, key)
            if bucket.code is None:
                bucket.code = build(self, source, name, filename)
                cache.set_bucket(bucket)
            codes[key] = bucket.code
        return codes[key]

    environment.compile = compile_


def read_hosts_once(hostvars: Any, tasks: Any) -> None:
    """Have a task put together each host's variables once, however often filters look at all hosts.

    A task changes them when its result is back with the run, which does it anew each time.

    Args:
        hostvars: the class of Ansible's ``hostvars``.
        tasks: the class of the contexts that tasks run in.
    """
    read = hostvars.raw_get

    @functools.wraps(read)
    def raw_get(self: Any, host_name: str) -> Any:
        task = tasks.current(optional=True)
        if task is None:
            return read(self, host_name)
        held = vars(task).setdefault("hosts_read", {})
        if host_name not in held:
            held[host_name] = read(self, host_name)
        return held[host_name]

    hostvars.raw_get = raw_get


def code_of_file(source: bytes, path: str, mode: str) -> CodeType:
    """Return a module's code as Python has kept it, or compile its source.

    Where Mitogen changes what it sends of a file, this is the file's own. Mitogen only looks at its imports.
    """
    # What is kept may be damaged.
    with contextlib.suppress(OSError, ImportError, SyntaxError, EOFError, ValueError, TypeError):
        if code := SourceFileLoader("", path).get_code(""):
            return code
    return compile(source, path, mode)


def look_for_imports_once() -> None:
    """Have Mitogen compile what modules share once: it compiles each module, and all of theirs, to see the imports."""
    ansible_mitogen.module_finder.compile = functools.cache(compile)
    mitogen.master.compile = code_of_file


def leave_processors_alone() -> None:
    """Have Mitogen tie no process to a processor.

    On two cores it ties this process, and all of the tasks', to one of them: that of all other runs too.
    """
    ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


StrategyModule: Any = linear.StrategyModule
reason = reason_against_mitogen(core, installed("mitogen"))
threads = not reason and runs_in_threads(core)
hide_own_deprecation(Display())
# In a run, that is.
if AnsibleCollectionConfig.collection_finder:
    load_once()
    list_collections_once()
    # A core that has these elsewhere works the same, slower.
    with contextlib.suppress(AttributeError, ImportError):
        read_hosts_once(HostVars, context_of_tasks())
    with contextlib.suppress(ImportError):
        compile_once(*compiler(), constants.DEFAULT_LOCAL_TMP, threads=threads)
if reason:
    Display().warning(f"This run takes up to four times as long: {reason}.")
else:
    import ansible_mitogen.affinity
    import ansible_mitogen.module_finder
    import mitogen.master
    import mitogen.ssh

    # By its own package, not by its path: the path holds the Python version.
    from ansible_mitogen.plugins.strategy import mitogen_linear

    leave_processors_alone()
    look_for_imports_once()
    mitogen.ssh.Connection.get_boot_command = put_options_first(mitogen.ssh.Connection.get_boot_command)
    StrategyModule = mitogen_linear.StrategyModule
    if threads:
        StrategyModule = strategy_loader.get("mitogen_threads", class_only=True)

__all__ = ["StrategyModule"]
