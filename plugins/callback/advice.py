"""Says in plain words why a host could not be reached or worked on, and how to mend it.

Ansible, Mitogen, SSH and sudo each have words of their own for this. What they say is shown as ever; one line more
follows it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible import constants
from ansible import context as command_line
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

DOCUMENTATION = """
name: advice
type: notification
short_description: how to mend what keeps Ansible from a host
description: One line for each host that cannot be reached, or where sudo or Python is missing.
"""

KEY_OR_PASSWORD = (
    "SSH refused {user}: {key}. Set ansible_user and ansible_ssh_private_key_file, with the key's public half in that "
    "user's ~/.ssh/authorized_keys there, or use a password: ansible_password, or --ask-pass."
)
# What is looked for in the message of a host that could not be reached; then the reason and the mend.
UNREACHABLE = (
    (
        r"host key verification failed|unrecognized\s+or\s+mismatching\s+host\s+key|accept\s+unknown\s+host\s+key"
        r"|host\s+identification\s+has\s+changed",
        "its SSH host key is not the one in known_hosts, or not there yet. Of a new host, take it once you trust it: "
        "ssh-keyscan {port}{address} >> ~/.ssh/known_hosts (or let SSH do it: ansible_ssh_common_args: "
        "-o StrictHostKeyChecking=accept-new). Of a host that was set up anew, first remove the old one: "
        "ssh-keygen -R {known}.",
    ),
    (
        r"ssh password is incorrect|invalid/incorrect username/password",
        "SSH refused the password of {user}: set ansible_user and ansible_password right, or use --ask-pass.",
    ),
    (r"ssh password was requested|ssh authentication is incorrect|permission denied", KEY_OR_PASSWORD),
    (
        r"connect to host (?P<where>\S+) port (?P<at>\d+): (?P<why>[^\r\n]+)",
        "{where} port {at}: {why}. See that the host is up and runs an SSH server, that a firewall lets you through, "
        "and that ansible_host and ansible_port are right.",
    ),
    (
        r"could not resolve hostname (?P<where>[^\s:]+)",
        "the name {where} has no address here: set ansible_host to an address, or to a name that has one.",
    ),
    (
        r"timeout \(\d+s\) waiting for privilege escalation prompt|become.*timed out",
        "sudo did not ask for the password as ansible-core expects. sudo-rs, Ubuntu 26.04's own, does not: set "
        "ansible_become_exe: sudo.ws, or install Mitogen here (pip install mitogen), which knows it.",
    ),
    (
        r"connection timed out|failed to setup connection|timed out|connection timeout",
        "no answer in time. See that the host is up; one that needs longer gets it by ansible_ssh_timeout (seconds).",
    ),
)
# The same for hosts that were reached.
UNUSABLE = (
    (
        r"(?P<what>[^\s'\"]*python[\w.]*)'?\"?(?:: no such file|: (?:command )?not found| was not found)",
        "there is no {what}: install it there (apt-get install python3), or set ansible_python_interpreter to another.",
    ),
    (
        r"sudo password is required|missing sudo password|sudo: a password is required"
        r"|interactive authentication is required",
        "sudo asks for the password of {user}, and none was given: use --ask-become-pass, or set "
        "ansible_become_password (with Ansible Vault).",
    ),
    (
        r"(?:sudo password is incorrect|incorrect sudo password)",
        "sudo refused {user}: the password is wrong (--ask-become-pass, ansible_become_password), or that user may not "
        "use sudo there (usermod -aG sudo).",
    ),
    (
        r"not in the sudoers file|may not run sudo|not allowed to (?:run|execute)",
        "{user} may not use sudo there: usermod -aG sudo.",
    ),
    (
        r"(?P<what>/?(?:[\w.-]+/)*[\w.-]*sudo[\w.-]*)(?:'|: (?:command )?not found|: no such file)",
        "there is no {what}: install sudo there, connect as root, or set ansible_become_exe.",
    ),
)

# The variables that the sentences rest on.
CONNECTION = {f"ansible_{name}" for name in ("user", "host", "port", "password", "private_key_file")}
CONNECTION |= {f"ansible_ssh_{name}" for name in ("user", "host", "port", "password", "pass", "private_key_file")}


def advice(message: str, facts: dict[str, str], *, reached: bool) -> str:
    """Return the reason and the mend for what went wrong with a host, or nothing where it is another matter.

    Args:
        message: what Ansible said.
        facts: ``user``, ``key``, ``address``, ``port`` and ``known`` for the sentences.
        reached: whether the host was reached; other matters are looked for then.
    """
    for pattern, sentence in UNUSABLE if reached else UNREACHABLE + UNUSABLE:
        if found := re.search(pattern, message, re.IGNORECASE):
            return sentence.format(**(facts | {name: text.strip() for name, text in found.groupdict().items()}))
    return ""


def describe(variables: dict[str, Any], name: str) -> dict[str, str]:
    """Return what sentences say about the connection to a host, from its variables and the command line."""
    said = command_line.CLIARGS
    user = variables.get("ansible_user") or variables.get("ansible_ssh_user") or said.get("remote_user")
    user = user or constants.DEFAULT_REMOTE_USER
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    key = key or said.get("private_key_file") or constants.DEFAULT_PRIVATE_KEY_FILE
    address = str(variables.get("ansible_host") or variables.get("ansible_ssh_host") or name)
    port = str(variables.get("ansible_port") or variables.get("ansible_ssh_port") or 22)
    state = "no key of yours was accepted"
    if variables.get("ansible_password") or variables.get("ansible_ssh_pass") or variables.get("ansible_ssh_password"):
        state = "the password was not accepted"
    elif key:
        state = (
            f"the key {key} was not accepted" if Path(key).expanduser().is_file() else f"the key file {key} is missing"
        )
    return {
        "user": f"the user {user}" if user else "your own user name",
        "key": state,
        "address": address,
        "port": "" if port == "22" else f"-p {port} ",
        "known": address if port == "22" else f"'[{address}]:{port}'",
    }


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types.
    """Shows the advice below what Ansible shows."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "advice"

    _play: Any

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Keep the play, which knows the hosts' variables."""
        self._play = play

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Explain a host that could not be reached."""
        self._explain(result, reached=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002
        """Explain a host that was reached and can't be worked on, though the play may go on."""
        self._explain(result, reached=True)

    def _explain(self, result: Any, *, reached: bool) -> None:
        message = "\n".join(str(result.result.get(part, "")) for part in ("msg", "module_stderr", "module_stdout"))
        # Other failures need not wait for a host's variables.
        if not advice(message, dict.fromkeys(("user", "key", "address", "port", "known"), ""), reached=reached):
            return
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=result.host)
        templar = Templar(loader=self._play.get_loader(), variables=variables)
        facts = describe(
            {name: templar.template(variables[name]) for name in CONNECTION & set(variables)}, result.host.name
        )
        self._display.display(
            f"{result.host.name}: {advice(message, facts, reached=reached)}", color=constants.COLOR_ERROR
        )
