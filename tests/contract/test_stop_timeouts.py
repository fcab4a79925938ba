"""What an operator reads whose settings of backend_app contradict each other. Nothing here changes this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.include_role: {name: backend_app, tasks_from: container}
  vars: {backend_app_drain_seconds: 30, backend_app_stop_timeout_seconds: 45}
"""


def test_stop_timeout_that_is_too_short_is_refused_with_one_sentence(tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    run = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "--check", str(play)],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    words = " ".join(run.stdout.split())
    assert run.returncode != 0, words
    assert (
        "backend_app_stop_timeout_seconds (45) must be more than backend_app_drain_seconds (30) and "
        "backend_app_graceful_timeout_seconds (15) together, or the engine kills running requests."
    ) in words
