"""A run's folder: what its files are called, and how they are read though a run may have been killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError

PLAN = "run.json"
TIMELINE = "timeline.jsonl"
LOAD = "load.jsonl.gz"
HAPROXY = "haproxy.jsonl"
PROMETHEUS = "prometheus.json"
JOURNAL = "journal.json"


def existing(folder: Path) -> Path:
    """Return the folder; raises EvenkeelError where it is none."""
    if not folder.is_dir():
        raise EvenkeelError(f"The folder {folder} doesn't exist.")
    return folder


def read_text(path: Path) -> str:
    """Return a file's text; raises EvenkeelError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EvenkeelError(f"The file {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EvenkeelError(f"The file {path} is not text.") from None


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; raises EvenkeelError."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise EvenkeelError(f"The file {path} can't be written: {error.strerror}.") from None


def append(path: Path, values: dict[str, Any]) -> None:
    """Add one line of JSON in a single write, so that a kill leaves it whole or away; raises EvenkeelError."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(f"{json.dumps(values)}\n".encode())
    except OSError as error:
        raise EvenkeelError(f"The file {path} can't be written: {error.strerror}.") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raises EvenkeelError."""
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise EvenkeelError(f"The file {path} is no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise EvenkeelError(f"The file {path} must hold a JSON object.")
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, without a last one that a kill cut off; raises EvenkeelError."""
    *whole, _ = read_text(path).split("\n")
    found = []
    for number, line in enumerate(whole, start=1):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise EvenkeelError(f"The file {path} has no JSON object in line {number}.")
        found.append(values)
    return found
