"""Mitogen's linear strategy, with a thread for each task and host where Ansible has a process.

Ansible forks for each task and host. A fork copies the tables of a hundred megabytes, and what it learns is lost with
it. That was half of what a run cost. Mitogen's own process talks to the hosts, so threads hardly wait for each other.

A thread does what a worker process does (``ansible.executor.process.worker`` of ansible-core 2.21). A process has all
variables as they were when it began, so here no result is taken in while a thread may read them.
"""

from __future__ import annotations

import copy
import functools
import threading
import traceback
from typing import Any

import ansible_mitogen.process
from ansible._internal._task import TaskContext
from ansible._internal._templating._engine import TemplateEngine
from ansible.errors import AnsibleError
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins import loader as plugins
from ansible_mitogen.plugins.strategy import mitogen_linear

# It reads from the terminal, which must be stopped by a signal.
ASKS = {"pause", "ansible.builtin.pause", "ansible.legacy.pause"}
# Seconds after which the main thread looks whether a task wants something of it: a new group, say.
PATIENCE = 0.02


def one_by_one(owner: Any, method: str, lock: Any) -> None:
    """Have threads call a method one after the other, whatever they call besides with this lock."""
    call = getattr(owner, method)

    @functools.wraps(call)
    def locked(*args: Any, **options: Any) -> Any:
        with lock:
            return call(*args, **options)

    setattr(owner, method, locked)


class Binding(ansible_mitogen.process.ClassicBinding):  # type: ignore[misc]  # Mitogen has no types.
    """A task's share of the way to Mitogen's process."""

    def close(self) -> None:
        """Leave it open: other threads use it."""


class WorkerModel(ansible_mitogen.process.WorkerModel):  # type: ignore[misc]
    """One way to Mitogen's process for all threads of a play, where each of Ansible's processes has its own."""

    def __init__(self, model: Any) -> None:
        """Take Mitogen's own model."""
        self._model = model

    def on_strategy_start(self) -> None:
        """Do what Mitogen does."""
        self._model.on_strategy_start()

    def on_strategy_complete(self) -> None:
        """Close what the play's tasks used."""
        self.close()
        self._model.on_strategy_complete()

    def get_binding(self, inventory_name: str) -> Binding:
        """Return the way, which is the same for each host."""
        if self._model.broker is None:
            # By the main thread: it ends with the thread that opens it.
            self._model.get_binding(inventory_name)
        return Binding(self._model)

    def close(self) -> None:
        """Close the way. No thread may be running."""
        self._model.on_binding_close()


class StrategyModule(mitogen_linear.StrategyModule):  # type: ignore[misc]
    """The strategy."""

    def __init__(self, tqm: Any) -> None:
        """Begin without threads."""
        super().__init__(tqm)
        self._threads: list[threading.Thread] = []
        self._crash = ""

    def _get_worker_model(self) -> Any:
        return WorkerModel(super()._get_worker_model())

    def _running(self) -> list[threading.Thread]:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads

    def _wait(self, most: int) -> None:
        """Wait until at most so many threads are running; do meanwhile what they ask of the main thread."""
        while len(running := self._running()) > most:
            self._process_rpc_queue()
            running[0].join(PATIENCE)

    def _queue_task(self, host: Any, task: Any, task_vars: Any, play_context: Any) -> None:
        """Start a task for a host; the base class does that with a process."""
        # A time limit is a signal, and only a main thread gets signals.
        if task.timeout or task.action in ASKS:
            self._wait(0)
            self._worker_model.close()
            super()._queue_task(host, task, task_vars, play_context)
            return
        most = len(self._workers)
        throttle = int(TemplateEngine(loader=self._loader, variables=task_vars).template(task.throttle))
        if throttle > 0 and not task.run_once:
            most = min(most, throttle)
        self._wait(most - 1)
        key = (host.name, task._uuid)
        self._queued_task_cache[key] = {
            "host": host,
            "task": task,
            "task_vars": task_vars,
            "play_context": play_context,
        }
        self._worker_model.get_binding(host.name)
        own = task.copy(exclude_parent=True)
        own._parent = task._parent
        self._tqm.send_callback("v2_runner_on_start", host, task)
        # With variables of its own: Ansible's debugger may start it again. A run that is stopped does not wait for it.
        thread = threading.Thread(target=self._perform, args=(host, own, task_vars.copy(), play_context), daemon=True)
        self._threads.append(thread)
        self._pending_results += 1
        thread.start()

    def _perform(self, host: Any, task: Any, task_vars: Any, play_context: Any) -> None:
        """Run a task for a host, as a worker process does; what comes out goes the same way as from there."""
        loader = copy.copy(self._loader)
        loader._tempfiles = set()
        try:
            with TaskContext.create(task=task, task_vars=task_vars, host_name=host.name):
                task.squash()
                executor = TaskExecutor(
                    host,
                    play_context,
                    loader,
                    plugins.get_plugin_loader_namespace(),
                    self._final_q,
                    self._variable_manager,
                )
                result = executor.run()
                result.finalize_registered_values()
            # Found out by the end of a loop, and asked for by callbacks.
            task.ignore_errors = result.ignore_errors
            task.ignore_unreachable = result.ignore_unreachable
            self._final_q.send_task_result(host, task, result)
        except BaseException:  # noqa: BLE001 - the main thread raises it
            self._crash = f"{task} on {host}: {traceback.format_exc()}"
        finally:
            loader.cleanup_all_tmp_files()

    def _process_pending_results(self, iterator: Any, one_pass: bool = False, max_passes: int | None = None) -> Any:
        """Take in results, once no thread reads the variables that they change."""
        if self._running():
            self._process_rpc_queue()
            return []
        if self._crash:
            raise AnsibleError(f"A task's thread ended. {self._crash}")
        return super()._process_pending_results(iterator, one_pass=one_pass, max_passes=max_passes)

    def _wait_on_pending_results(self, iterator: Any) -> Any:
        self._wait(0)
        return super()._wait_on_pending_results(iterator)


# Ansible takes a folder of plugins for searched, and a plugin for loaded, before it is.
LOADING = threading.RLock()
for name in ("find_plugin_with_context", "_load_module_source"):
    one_by_one(plugins.PluginLoader, name, LOADING)
