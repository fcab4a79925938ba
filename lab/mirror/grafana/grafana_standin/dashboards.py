"""The dashboards of the providers' folders, looked at again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from grafana_standin import StandinError, provisioning
from grafana_standin.provisioning import Provider


class Dashboards:
    """What the folders hold; a file that is refused is left out and spoken of once."""

    def __init__(
        self, providers: Iterable[Provider], uids: Collection[str], min_refresh: float, log: Callable[[str, str], None]
    ) -> None:
        """Keep the arguments; :meth:`look` reads, :meth:`watch` goes on reading.

        Args:
            providers: the folders.
            uids: the uids of the datasources.
            min_refresh: the shortest refresh in seconds.
            log: takes a level and a sentence.
        """
        self._providers = list(providers)
        self._uids, self._min_refresh, self._log = uids, min_refresh, log
        self._said: set[str] = set()
        self.found: dict[str, dict[str, Any]] = {}

    def look(self) -> None:
        """Read all folders."""
        found: dict[str, dict[str, Any]] = {}
        said: set[str] = set()
        for provider in self._providers:
            for file in sorted(provider.path.glob("*.json")):
                try:
                    dashboard = self._read(file, found)
                except StandinError as error:
                    said.add(str(error))
                else:
                    found[dashboard["uid"]] = dashboard
        for sentence in sorted(said - self._said):
            self._log("error", f"dashboard left out: {sentence}")
        if found.keys() != self.found.keys():
            self._log("info", f"dashboards: {', '.join(sorted(found)) or 'none'}")
        self._said, self.found = said, found

    def watch(self) -> None:
        """Go on looking in the background."""
        threading.Thread(target=self._loop, daemon=True).start()

    def _read(self, file: Path, found: Collection[str]) -> dict[str, Any]:
        dashboard = provisioning.dashboard(file, self._uids, self._min_refresh)
        if dashboard["uid"] in found:
            raise StandinError(f"{file} has the uid {dashboard['uid']}, which is taken")
        return dashboard

    def _loop(self) -> None:
        pause = threading.Event()
        interval = min((provider.interval for provider in self._providers), default=10)
        while not pause.wait(interval):
            self.look()
