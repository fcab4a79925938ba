"""The provisioning files and the dashboards they lead to, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grafana_standin import StandinError
from grafana_standin.ini import duration

_UID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_DATASOURCE_FILE = {"apiVersion", "prune", "deleteDatasources", "datasources"}
_DATASOURCE = {"name", "uid", "type", "access", "orgId", "url", "isDefault", "editable", "version", "jsonData"}
_JSON_DATA = {"httpMethod", "timeInterval", "queryTimeout", "manageAlerts", "prometheusType", "prometheusVersion"}
_JSON_DATA |= {"cacheLevel", "incrementalQuerying", "disableMetricsLookup", "defaultEditor"}
_PROVIDER_FILE = {"apiVersion", "providers"}
_PROVIDER = {"name", "orgId", "type", "folder", "folderUid", "disableDeletion", "allowUiUpdates", "options"}
_PROVIDER |= {"updateIntervalSeconds"}
_PROVIDER_OPTIONS = {"path", "foldersFromFilesStructure"}
_DASHBOARD = {
    "annotations",
    "description",
    "editable",
    "fiscalYearStartMonth",
    "graphTooltip",
    "id",
    "links",
    "liveNow",
}
_DASHBOARD |= {"panels", "preload", "refresh", "schemaVersion", "tags", "templating", "time", "timepicker", "timezone"}
_DASHBOARD |= {"title", "uid", "version", "weekStart"}
_OWN_DATASOURCES = {"-- Grafana --", "-- Mixed --", "-- Dashboard --"}


@dataclass(frozen=True)
class Datasources:
    """The datasources of all files.

    Attributes:
        found: ``{uid: as the API shows it}``.
        prunable: the uids of those whose file says `prune`: they go once no file has them any more.
    """

    found: dict[str, dict[str, Any]]
    prunable: set[str]


@dataclass(frozen=True)
class Provider:
    """A folder of dashboards, looked at every ``interval`` seconds."""

    name: str
    path: Path
    interval: float


def datasources(folder: Path) -> Datasources:
    """Read ``datasources/*.yml``; raises StandinError for what is unknown or missing."""
    found: dict[str, dict[str, Any]] = {}
    prunable: set[str] = set()
    for file, content in _documents(folder / "datasources", _DATASOURCE_FILE):
        for item in content.get("datasources") or []:
            _only(item, _DATASOURCE, f"{file}: a datasource")
            where = f"{file}: the datasource {item.get('name')}"
            if missing := [key for key in ("name", "uid", "type", "url") if not isinstance(item.get(key) or None, str)]:
                raise StandinError(f"{where} has no {missing[0]}")
            if item["type"] != "prometheus":
                raise StandinError(f"{where} has the type {item['type']}; the stand-in knows prometheus only")
            if not _UID.fullmatch(item["uid"]) or item["uid"] in found:
                raise StandinError(f"{where}: the uid {item['uid']} is ill-formed or taken")
            if item.get("access", "proxy") not in {"proxy", "direct"}:
                raise StandinError(f"{where}: access is {item['access']}, not proxy or direct")
            data = item.get("jsonData") or {}
            _only(data, _JSON_DATA, f"{where}, jsonData")
            try:
                duration(str(data.get("timeInterval", "15s")))
            except ValueError as error:
                raise StandinError(f"{where}, timeInterval: {error}") from None
            found[item["uid"]] = _shown(item, data, len(found) + 1)
            if content.get("prune"):
                prunable.add(item["uid"])
    if sum(item["isDefault"] for item in found.values()) > 1:
        raise StandinError("Only one datasource per organization can be marked as default")
    return Datasources(found, prunable)


def providers(folder: Path) -> list[Provider]:
    """Read ``dashboards/*.yml``; raises StandinError for what is unknown or missing."""
    found = []
    for file, content in _documents(folder / "dashboards", _PROVIDER_FILE):
        for item in content.get("providers") or []:
            _only(item, _PROVIDER, f"{file}: a provider")
            where = f"{file}: the provider {item.get('name')}"
            options = item.get("options") or {}
            _only(options, _PROVIDER_OPTIONS, f"{where}, options")
            if not item.get("name") or item.get("type", "file") != "file" or not options.get("path"):
                raise StandinError(f"{where} needs a name, the type file and options.path")
            found.append(Provider(item["name"], Path(options["path"]), float(item.get("updateIntervalSeconds", 10))))
    return found


def dashboard(file: Path, uids: Collection[str], min_refresh: float) -> dict[str, Any]:
    """Read one dashboard.

    Args:
        file: its JSON file.
        uids: the uids of the datasources it may ask.
        min_refresh: the shortest refresh in seconds; a shorter one is raised, as Grafana does.

    Raises:
        StandinError: it is not JSON, lacks something, has something unknown, or asks a datasource that is not there.
    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StandinError(f"{file} can't be read: {error}") from None
    _only(found, _DASHBOARD, str(file))
    if not _UID.fullmatch(str(found.get("uid", ""))) or not found.get("title"):
        raise StandinError(f"{file} has no title or no uid of 1 to 40 letters, digits, - and _")
    panels = found.get("panels")
    if not isinstance(panels, list) or len({panel.get("id") for panel in panels}) != len(panels):
        raise StandinError(f"{file} has no panels, or two of them share an id")
    asked = {uid for uid in _datasource_uids(found) if uid not in _OWN_DATASOURCES and not uid.startswith("$")}
    if missing := asked - set(uids):
        raise StandinError(f"{file} asks the datasource {', '.join(sorted(missing))}, which is not there")
    try:
        if found.get("refresh") and duration(found["refresh"]) < min_refresh:
            found["refresh"] = f"{min_refresh:g}s"
    except ValueError as error:
        raise StandinError(f"{file}, refresh: {error}") from None
    return dict(found)


def _documents(folder: Path, known: Collection[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files of a folder that are not empty, in order."""
    for file in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        try:
            content = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise StandinError(f"{file} can't be read: {error}") from None
        if content is None:
            continue
        _only(content, known, str(file))
        if content.get("apiVersion") != 1:
            raise StandinError(f"{file}: apiVersion is {content.get('apiVersion')}, not 1")
        yield file, content


def _only(content: object, known: Collection[str], where: str) -> None:
    if not isinstance(content, dict):
        raise StandinError(f"{where} is no mapping")
    for key in content:
        if key not in known:
            raise StandinError(f"{where} has no key `{key}`; known are {', '.join(sorted(known))}")


def _datasource_uids(value: object) -> Iterator[str]:
    """Yield the uid of every datasource that a dashboard refers to, however deep."""
    if isinstance(value, dict):
        reference = value.get("datasource")
        if isinstance(reference, dict) and isinstance(reference.get("uid"), str):
            yield reference["uid"]
        for item in value.values():
            yield from _datasource_uids(item)
    elif isinstance(value, list):
        for item in value:
            yield from _datasource_uids(item)


def _shown(item: dict[str, Any], data: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": number,
        "uid": item["uid"],
        "orgId": item.get("orgId", 1),
        "name": item["name"],
        "type": item["type"],
        "typeName": "Prometheus",
        "access": item.get("access", "proxy"),
        "url": item["url"],
        "isDefault": bool(item.get("isDefault")),
        "jsonData": data,
        "readOnly": not item.get("editable"),
    }
