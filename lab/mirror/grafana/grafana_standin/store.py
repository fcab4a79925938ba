"""The database: the admin's password (hashed), datasources, annotations."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafana_standin import StandinError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY, login TEXT UNIQUE, salt BLOB, password BLOB);
CREATE TABLE IF NOT EXISTS datasource (uid TEXT PRIMARY KEY, shown TEXT, prunable INTEGER);
CREATE TABLE IF NOT EXISTS annotation (
  id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER, time_end INTEGER, tags TEXT, text TEXT,
  dashboard TEXT, panel INTEGER
);
"""
_ROUNDS = 10_000
# Grafana's own bound.
_SHORTEST_PASSWORD = 5


class Store:
    """The database ``grafana.db`` in a folder; made with its admin where there is none."""

    def __init__(self, folder: Path, admin_user: str, admin_password: str) -> None:
        """Open the database; raises StandinError where it can't be."""
        self._file = folder / "grafana.db"
        try:
            with self._open() as database:
                database.executescript(_SCHEMA)
                if not database.execute("SELECT 1 FROM user").fetchone():
                    # As with Grafana, the password of grafana.ini counts here and never again.
                    salt = secrets.token_bytes(16)
                    row = (1, admin_user, salt, _hash(admin_password, salt))
                    database.execute("INSERT INTO user VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise StandinError(f"the database {self._file} can't be opened: {error}") from None

    def set_password(self, password: str) -> None:
        """Set the admin's password; raises StandinError where it is too short."""
        if len(password) < _SHORTEST_PASSWORD:
            raise StandinError("new password is too short")
        salt = secrets.token_bytes(16)
        with self._open() as database:
            database.execute("UPDATE user SET salt = ?, password = ? WHERE id = 1", (salt, _hash(password, salt)))

    def accepts(self, login: str, password: str) -> bool:
        """Tell whether a user has this password."""
        with self._open() as database:
            row = database.execute("SELECT salt, password FROM user WHERE login = ?", (login,)).fetchone()
        return row is not None and hmac.compare_digest(_hash(password, row[0]), row[1])

    def keep_datasources(self, found: Mapping[str, object], prunable: Collection[str]) -> None:
        """Write the provisioned datasources.

        As with Grafana, of those that no file has any more only such go as were ``prunable`` when they came: whatever
        somebody made by hand, or by a file without `prune`, stays.
        """
        with self._open() as database:
            database.execute("DELETE FROM datasource WHERE prunable")
            for uid, shown in found.items():
                row = (uid, json.dumps(shown), uid in prunable)
                database.execute("INSERT OR REPLACE INTO datasource VALUES (?, ?, ?)", row)

    def datasources(self) -> dict[str, dict[str, Any]]:
        """Return the datasources by uid, as the API shows them."""
        with self._open() as database:
            rows = database.execute("SELECT uid, shown FROM datasource ORDER BY uid").fetchall()
        return {uid: json.loads(shown) for uid, shown in rows}

    def annotate(self, time: int, time_end: int, tags: Sequence[str], text: str, place: tuple[str, int]) -> int:
        """Add an annotation (times in milliseconds) and return its number."""
        with self._open() as database:
            values = (time, time_end, json.dumps(list(tags)), text, *place)
            return int(
                database.execute("INSERT INTO annotation VALUES (NULL, ?, ?, ?, ?, ?, ?)", values).lastrowid or 0
            )

    def annotations(self) -> list[dict[str, Any]]:
        """Return all annotations, the newest first."""
        with self._open() as database:
            rows = database.execute("SELECT * FROM annotation ORDER BY time DESC, id DESC").fetchall()
        keys = ("id", "time", "timeEnd", "tags", "text", "dashboardUID", "panelId")
        return [dict(zip(keys, row, strict=True)) | {"tags": json.loads(row[3])} for row in rows]

    def forget(self, number: int) -> bool:
        """Delete an annotation and tell whether it was there."""
        with self._open() as database:
            return database.execute("DELETE FROM annotation WHERE id = ?", (number,)).rowcount == 1

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection an operation: the server's threads and the command line come as they like.
        database = sqlite3.connect(self._file, timeout=10)
        try:
            with database:
                yield database
        finally:
            database.close()


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
