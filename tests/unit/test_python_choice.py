"""Which Python `make` takes (.config/python.sh). The interpreters are stand-ins that say what the script asks for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".config" / "python.sh"
BASH = shutil.which("bash") or "bash"


def add(folder: Path, name: str, says: str | None) -> Path:
    """Add an interpreter that says its version and state; without ``says`` it fails as pyenv's stand-ins do."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{BASH}\n" + (f'echo "{says} $0"\n' if says else 'echo "command not found" >&2\nexit 127\n'))
    path.chmod(0o755)
    return path


def choose(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{root / 'bin'}", "PYENV_ROOT": str(root / "pyenv")}
    return subprocess.run(
        [BASH, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_newest_of_the_path_is_taken(tmp_path: Path) -> None:
    add(tmp_path / "bin", "python3.11", "3.11 venv")
    add(tmp_path / "bin", "python3", "3.12 venv")
    newest = add(tmp_path / "bin", "python3.13", "3.13 venv")
    add(tmp_path / "bin", "python3.15", "3.15 venv")
    assert choose(tmp_path).stdout == f"{newest}\n"


def test_pyenvs_versions_are_found_behind_its_stand_ins(tmp_path: Path) -> None:
    add(tmp_path / "bin", "python3", "3.11 venv")
    add(tmp_path / "bin", "python3.14", None)
    newest = add(tmp_path / "pyenv" / "versions" / "3.14.1" / "bin", "python3", "3.14 venv")
    assert choose(tmp_path).stdout == f"{newest}\n"


def test_python_that_makes_no_environments_is_passed_over(tmp_path: Path) -> None:
    add(tmp_path / "bin", "python3.13", "3.13 bare")
    older = add(tmp_path / "bin", "python3.12", "3.12 venv")
    assert choose(tmp_path).stdout == f"{older}\n"


@pytest.mark.parametrize("name", ["3.12", "python3.12", "{root}/bin/python3.12"])
def test_the_one_named_is_taken(tmp_path: Path, name: str) -> None:
    add(tmp_path / "bin", "python3.13", "3.13 venv")
    named = add(tmp_path / "bin", "python3.12", "3.12 venv")
    assert choose(tmp_path, name.format(root=tmp_path)).stdout == f"{named}\n"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("old", "PYTHON=old is Python 3.9; supported are 3.14, 3.13, 3.12, 3.11"),
        ("missing", "PYTHON=missing does not run"),
        ("bare", "PYTHON=bare cannot make virtual environments: install its venv module"),
        ("", "no Python of 3.14, 3.13, 3.12, 3.11 was found in PATH or among pyenv's versions"),
        ("3.12", "no Python of 3.12 was found in PATH or among pyenv's versions"),
    ],
)
def test_wrong_choice_gets_one_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    add(tmp_path / "bin", "old", "3.9 venv")
    add(tmp_path / "bin", "bare", "3.12 bare")
    run = choose(tmp_path, name)
    assert run.returncode == 1
    assert run.stdout == ""
    assert sentence in run.stderr
    assert len(run.stderr.splitlines()) == 1
