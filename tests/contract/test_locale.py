"""Nothing may depend on the language of the operator, of the host or of the shell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("roles", "plugins", "playbooks", "group_vars", "src", "lab", "molecule", "bench")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (PROJECT / folder).rglob("*")
    if path.is_file() and path.suffix in {".py", ".yml", ".j2", ".sh", ""} and "__pycache__" not in path.parts
)
# Names of days and months, and whole dates as a locale writes them.
NAMES = re.compile(r"%[-_0^#]*[aAbBhpPcxXr](?![A-Za-z])")
CALLS = re.compile(r"strptime|strftime|to_datetime|\bdate\b.*['\" ]\+")


def offences(text: str) -> list[str]:
    """Return the lines that format or read a time by names."""
    return [line.strip() for line in text.splitlines() if CALLS.search(line) and NAMES.search(line)]


def test_no_time_is_read_or_written_by_names() -> None:
    found = {str(path.relative_to(PROJECT)): offences(path.read_text()) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "{{ answer.date | to_datetime('%a, %d %b %Y %H:%M:%S GMT') }}",
        "datetime.strptime(text, '%d %B %Y')",
        "when.strftime('%I:%M %p')",
        "date '+%c'",
    ],
)
def test_names_are_found(line: str) -> None:
    assert offences(line)


def test_numbers_are_no_names() -> None:
    assert not offences("now(utc=true).strftime('%Y-%m-%dT%H:%M:%SZ')\ndate +%s.%N\ndate -u +%Y%m%dT%H%M%SZ")


def test_date_of_an_answer_is_read_in_a_german_shell(tmp_path: Path) -> None:
    if not shutil.which("localedef") or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("this machine can make no German locale")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", tmp_path / "de_DE"], check=True)
    program = """
import locale, time
locale.setlocale(locale.LC_ALL, "")
import http_answer
print(time.strftime("%b", (2026, 10, 1, 0, 0, 0, 0, 0, 0)))
print(http_answer.Answer(200, "", {"date": "Thu, 01 Oct 2026 20:00:00 GMT"}).date)
"""
    environment = {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE", "PYTHONPATH": str(PROJECT / "plugins/modules")}
    run = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    # The month's name shows that the locale is in force.
    assert run.stdout.split() == ["Okt", "1790884800.0"]
