"""The image for AWX and ansible-navigator gets the versions that are tested."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_all_that_the_playbooks_need_has_its_version_from_the_lock_file() -> None:
    dockerfile = (PROJECT / "files" / "execution_environment" / "Dockerfile").read_text()
    (taken,) = re.findall(r"sed -n '([^']+)'", dockerfile)
    lines = subprocess.run(
        ["sed", "-n", taken, PROJECT / "requirements.txt"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [line for line in lines if not re.match(r"[a-z0-9._-]+(\[[a-z]+\])?==[^ ]+( ; .+)?$", line)] == []
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[a-z0-9_-]+", each)[0] for each in wanted}  # type: ignore[index]
    assert names <= {re.match(r"[a-z0-9._-]+", line)[0] for line in lines}  # type: ignore[index]
