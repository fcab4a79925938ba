"""What `make test` says last when something failed (.config/failed.sh)."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / ".config" / "failed.sh"


def summary(folder: Path) -> str:
    """Return what the script says of FOLDER."""
    return subprocess.run(["bash", SCRIPT, folder], check=True, capture_output=True, text=True).stdout


def test_names_target_unit_test_and_step_with_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "test.log").write_text(
        "1957 passed\nFAILED tests/unit/test_x.py::test_y - assert 1 == 2\n"
        "\x1b[32mtls\x1b[0m ➜ \x1b[33mverify\x1b[0m: \x1b[31mExecuted: Failed\x1b[0m\n"
        "\x1b[31mERROR   \x1b[0m Molecule executed 1 scenario (1 failed)\n"
        "\x1b[32mtls\x1b[0m ➜ \x1b[33mdestroy\x1b[0m: \x1b[32mExecuted: Successful\x1b[0m\n"
        "make[1]: *** [Makefile:123: aside] Error 2\n"
    )
    (tmp_path / "molecule-tls.failed").write_text("tests/test_tls.py::test_z\nassert 3 == 4\n")
    (tmp_path / "molecule-docker.failed").write_text("")
    assert summary(tmp_path) == (
        "\nWhat failed:\n"
        "FAILED tests/unit/test_x.py::test_y - assert 1 == 2\n"
        "make[1]: *** [Makefile:123: aside] Error 2\n"
        "tls ➜ verify: Executed: Failed\n"
        "\nIn molecule-tls:\ntests/test_tls.py::test_z\nassert 3 == 4\n"
    )


def test_without_a_scenario_there_is_no_list_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "test.log").write_text("make[1]: *** [Makefile:99: lint] Error 1\n")
    assert summary(tmp_path) == "\nWhat failed:\nmake[1]: *** [Makefile:99: lint] Error 1\n"
