"""What the operator reads of a host that Ansible cannot reach or work on. The messages were taken from real runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible import context
from ansible.utils.context_objects import CLIArgs

import advice

FACTS = {
    "user": "the user ops",
    "key": "the key file /keys/id is missing",
    "address": "192.0.2.7",
    "port": "-p 2222 ",
    "known": "'[192.0.2.7]:2222'",
}
SEND = 'Data could not be sent to remote host "192.0.2.7". Make sure this host can be reached over ssh: '
EOF = "EOF on stream; last 100 lines received:\n"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (f"{SEND}ops@192.0.2.7: Permission denied (publickey,password).", "the key file /keys/id is missing"),
        (
            "SSH authentication is incorrect",
            "SSH refused the user ops: the key file /keys/id is missing. Set ansible_user",
        ),
        ("SSH password was requested, but none specified", "ansible_password, or --ask-pass"),
        ("SSH password is incorrect", "SSH refused the password of the user ops"),
        (
            "Invalid/incorrect username/password. Skipping remaining 5 retries",
            "SSH refused the password of the user ops",
        ),
        (f"{SEND}Host key verification failed.", "ssh-keyscan -p 2222 192.0.2.7 >> ~/.ssh/known_hosts"),
        (
            "Host key checking is enabled, and SSH reported an unrecognized or mismatching host key.",
            "ssh-keygen -R '[192.0.2.7]:2222'",
        ),
        (
            "SSH requested permission to accept unknown host key, but check_host_keys=ignore. This is likely due to",
            "its SSH host key is not the one in known_hosts, or not there yet",
        ),
        (
            f"{EOF}ssh: connect to host 192.0.2.7 port 9: Connection refused\r\n",
            "192.0.2.7 port 9: Connection refused.",
        ),
        (
            f"{SEND}ssh: connect to host 192.0.2.7 port 22: Connection timed out",
            "192.0.2.7 port 22: Connection timed out.",
        ),
        (f"{EOF}ssh: connect to host 192.0.2.7 port 22: No route to host", "192.0.2.7 port 22: No route to host."),
        (
            f"{EOF}ssh: Could not resolve hostname db.invalid: Name or service not known",
            "the name db.invalid has no address",
        ),
        ("Connection timed out.", "ansible_ssh_timeout"),
        (
            f"{EOF}bash: line 1: /usr/bin/python3.99: No such file or directory",
            "there is no /usr/bin/python3.99: install",
        ),
        (
            "Timeout (12s) waiting for privilege escalation prompt: ",
            "set ansible_become_exe: sudo.ws, or install Mitogen",
        ),
    ],
)
def test_unreachable_host_gets_a_reason_and_a_mend(message: str, sentence: str) -> None:
    assert sentence in advice.advice(f"Task failed: {message}", FACTS, reached=False)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Missing sudo password",
            "sudo asks for the password of the user ops, and none was given: use --ask-become-pass",
        ),
        ("error occurred on host one: sudo password is required", "sudo asks for the password of the user ops"),
        ("\nsudo: a password is required", "sudo asks for the password of the user ops"),
        ("\nsudo-rs: interactive authentication is required", "sudo asks for the password of the user ops"),
        ("Incorrect sudo password", "sudo refused the user ops: the password is wrong"),
        (
            "error occurred on host one: sudo password is incorrect",
            "that user may not use sudo there (usermod -aG sudo)",
        ),
        ("\nops is not in the sudoers file.", "the user ops may not use sudo there: usermod -aG sudo."),
        ("The module interpreter '/usr/bin/python3.99' was not found.", "there is no /usr/bin/python3.99: install it"),
        ("\n/bin/sh: 1: /usr/bin/python3: not found", "there is no /usr/bin/python3: install it there"),
        ("\n/bin/sh: 1: sudo: not found", "there is no sudo: install sudo there, connect as root"),
        (
            "[Errno 2] No such file or directory: '/usr/bin/sudo'. Command was",
            "there is no /usr/bin/sudo: install sudo there",
        ),
    ],
)
def test_unusable_host_gets_a_reason_and_a_mend(message: str, sentence: str) -> None:
    assert sentence in advice.advice(f"Task failed: {message}", FACTS, reached=True)


@pytest.mark.parametrize(
    "message",
    [
        "Status code was -1 and not [200]: connect to host 10.0.0.1 port 80: Connection refused",
        "Permission denied: '/etc/haproxy/haproxy.cfg'",
        "http://10.0.0.1/readyz did not answer as wanted within 30 s: timed out",
    ],
)
def test_other_failures_of_a_host_get_no_advice_about_ssh(message: str) -> None:
    assert advice.advice(message, FACTS, reached=True) == ""


def test_connection_is_described_from_the_inventory_and_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({"remote_user": "said", "private_key_file": None}))
    facts = advice.describe({"ansible_host": "192.0.2.7", "ansible_port": 2222}, "one")
    assert facts == FACTS | {"user": "the user said", "key": "no key of yours was accepted"}
    key = str(tmp_path / "id")
    facts = advice.describe({"ansible_user": "ops", "ansible_ssh_private_key_file": key}, "one")
    assert facts == {
        "user": "the user ops",
        "key": f"the key file {key} is missing",
        "address": "one",
        "port": "",
        "known": "one",
    }
    assert advice.describe({"ansible_password": "x"}, "one")["key"] == "the password was not accepted"
