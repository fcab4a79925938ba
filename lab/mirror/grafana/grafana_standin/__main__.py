"""The command ``grafana``: ``grafana server`` and ``grafana cli admin reset-admin-password``, as Grafana takes them."""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from grafana_standin import VERSION, StandinError, ini, provisioning, web
from grafana_standin.dashboards import Dashboards
from grafana_standin.store import Store

_HOME = "/usr/share/grafana"


def log(level: str, sentence: str) -> None:
    """Write a line to the journal, at once."""
    print(f'logger=standin level={level} msg="{sentence}"', flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    os.umask(0o027)
    parser = argparse.ArgumentParser(prog="grafana", description=__doc__)
    parser.add_argument("--version", action="version", version=f"grafana version {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("server")
    cli = commands.add_parser("cli")
    for command in (server, cli):
        command.add_argument("--homepath")
        command.add_argument("--config", type=Path, default=Path("/etc/grafana/grafana.ini"))
        command.add_argument("--configOverrides", default="")
    server.add_argument("--pidfile", type=Path)
    server.add_argument("--packaging")
    server.add_argument("overrides", nargs="*")
    admin = cli.add_subparsers(required=True).add_parser("admin").add_subparsers(required=True)
    reset = admin.add_parser("reset-admin-password")
    reset.add_argument("--password-from-stdin", action="store_true")
    reset.add_argument("--user-id", type=int, choices=[1], default=1)
    reset.add_argument("password", nargs="?")
    arguments = parser.parse_args(argv)
    try:
        overrides = [*arguments.configOverrides.split(), *getattr(arguments, "overrides", [])]
        settings = ini.load(arguments.config, _defaults(overrides))
        if arguments.command == "cli":
            _reset(settings, arguments.password, arguments.password_from_stdin)
        else:
            _serve(settings, arguments.pidfile, Path(arguments.homepath or _HOME) / "data" / "plugins-bundled")
    except StandinError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _defaults(overrides: Sequence[str]) -> dict[str, str]:
    """Return what ``cfg:default.<section>.<key>=<value>`` arguments set; raises StandinError for any other."""
    found = {}
    for item in overrides:
        name, separator, value = item.partition("=")
        if not name.startswith("cfg:default.") or not separator:
            raise StandinError(f"the argument `{item}` is not of the form cfg:default.<section>.<key>=<value>")
        found[name.removeprefix("cfg:default.")] = value
    return found


def _reset(settings: ini.Settings, password: str | None, from_stdin: bool) -> None:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise StandinError("can't read password from stdin" if from_stdin else "new password is too short")
    Store(settings.data, settings.admin_user, settings.admin_password).set_password(password)
    print("Admin password changed successfully ✔")


def _serve(settings: ini.Settings, pidfile: Path | None, plugins: Path) -> None:
    log("info", f"starting a stand-in for Grafana, version {VERSION}: it is not Grafana and draws nothing")
    store = Store(settings.data, settings.admin_user, settings.admin_password)
    sources = provisioning.datasources(settings.provisioning)
    store.keep_datasources(sources.found, sources.prunable)
    known = store.datasources()
    dashboards = Dashboards(provisioning.providers(settings.provisioning), known, settings.min_refresh, log)
    dashboards.look()
    handler = web.handler(web.Site(store, dashboards, settings.anonymous, plugins))
    try:
        server = http.server.ThreadingHTTPServer((settings.address, settings.port), handler)
    except OSError as error:
        place = f"{settings.address}:{settings.port}"
        raise StandinError(f"failed to open listener on address {place}: {error.strerror}") from None
    if pidfile:
        pidfile.write_text(str(os.getpid()))
    # A stop is no failure. In a thread: shutdown() waits for the loop that this handler interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    dashboards.watch()
    threading.Thread(target=_ask_datasources, args=(known,), daemon=True).start()
    log("info", f"HTTP server listens on {settings.address}:{settings.port}")
    server.serve_forever(poll_interval=0.2)


def _ask_datasources(known: dict[str, dict[str, object]]) -> None:
    for uid, item in known.items():
        problem = web.ask(str(item["url"]))
        log("error" if problem else "info", f"datasource {uid}: {problem or 'it answers'}")


if __name__ == "__main__":
    sys.exit(main())
