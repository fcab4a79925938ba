"""Ansible module: load an nftables table so that it stays only if a new SSH connection gets through it.

Rules are first loaded on trial: a timer of systemd on the host takes them back, unless they are kept before it ends.
Only :class:`Host` and :func:`main` touch the host. Runs there with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: nft_table
short_description: Load an nftables table, and keep it only if a new connection works
description:
  - One table is looked at and changed. No other is read or touched.
  - "I(state=query) tells the ports of SSH, by which interfaces the host reaches others, and whether I(kept) is there."
  - "I(state=tried) loads I(rules), unless the kernel has exactly them and they were kept. A timer on the host puts the
    rules that were kept last back after I(seconds)."
  - "I(state=kept) ends the timer and keeps the rules as I(kept). It fails when it is asked over I(session): a session
    that was open before proves nothing."
  - "I(state=undone) puts the rules that were kept last back at once."
  - "I(state=absent) removes the table."
options:
  state: {description: What to do., type: str, choices: [query, tried, kept, undone, absent], required: true}
  table: {description: "Family and name.", type: str, default: inet evenkeel}
  rules: {description: "The file with the table, which C(nft -f) loads whole or not at all.", type: path}
  kept: {description: "The file with the rules that were kept last, which need not be there.", type: path}
  seconds: {description: "How long rules on trial stay.", type: int, default: 90}
  session: {description: "The session that I(state=tried) returned; empty for none that would have to differ.",
            type: str, default: ""}
author: [evenkeel]
"""
EXAMPLES = """
- name: Load the rules on trial
  nft_table: {state: tried, rules: /etc/evenkeel-firewall.nft, kept: /var/lib/evenkeel/firewall/rules.nft}
  register: tried
- name: Keep them, over a connection of its own
  nft_table:
    state: kept
    rules: /etc/evenkeel-firewall.nft
    kept: /var/lib/evenkeel/firewall/rules.nft
    session: "{{ tried.session }}"
  vars: {ansible_ssh_args: -o ControlMaster=no -o ControlPath=none}
"""
RETURN = """
session: {description: "C(SSH_CONNECTION) of the session that asks; empty without SSH.", type: str, returned: always}
ssh_ports: {description: "The ports on which SSH is reached.", type: list, returned: for query}
outward: {description: "The interfaces of the default routes.", type: list, returned: for query}
on: {description: "Whether there are rules that were kept.", type: bool, returned: for query}
"""

UNDO = "evenkeel-firewall-undo"
_COMMAND_SECONDS = 120
ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["query", "tried", "kept", "undone", "absent"], "required": True},
    "table": {"type": "str", "default": "inet evenkeel"},
    "rules": {"type": "path"},
    "kept": {"type": "path"},
    "seconds": {"type": "int", "default": 90},
    "session": {"type": "str", "default": ""},
}


class TableError(Exception):
    """What could not be done; its text is the sentence the operator reads."""


def parse_sshd(text: str) -> set[int]:
    """Return the ports in what ``sshd -T`` prints."""
    ports = re.findall(r"^port (\d+)$", text, re.MULTILINE)
    ports += re.findall(r"^listenaddress \S+:(\d+)$", text, re.MULTILINE)
    return {int(port) for port in ports}


def parse_socket(text: str) -> set[int]:
    """Return the TCP ports in what ``systemctl show --property=Listen`` prints of ``ssh.socket``."""
    return {int(port) for port in re.findall(r"^Listen=(?:\S*:)?(\d+) \(Stream\)$", text, re.MULTILINE)}


def parse_routes(text: str) -> set[str]:
    """Return the interfaces of the default routes in the text of ``/proc/net/route`` or ``/proc/net/ipv6_route``."""
    found = set()
    for row in (line.split() for line in text.splitlines()):
        if len(row) == 11 and row[1] == row[7] == "00000000":
            found.add(row[0])
        # The kernel's own route to nowhere is one of `lo`.
        elif len(row) == 10 and row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo":
            found.add(row[9])
    return found


def session_of(pid: int, root: Path = Path("/proc")) -> str:
    """Return ``SSH_CONNECTION`` of the nearest process, from this one upwards, that has it; empty where none has.

    sudo takes it out of the environment of what it runs, and not out of its own.

    Args:
        pid: the process to begin with.
        root: where the kernel shows its processes.
    """
    while pid > 1:
        try:
            for entry in (root / str(pid) / "environ").read_bytes().split(b"\0"):
                if entry.startswith(b"SSH_CONNECTION="):
                    return entry.partition(b"=")[2].decode()
            status = (root / str(pid) / "status").read_text()
        except OSError:
            return ""
        parent = re.search(r"^PPid:\s*(\d+)$", status, re.MULTILINE)
        pid = int(parent[1]) if parent else 0
    return ""


class Host:
    """The host, with the commands that it is asked by."""

    @staticmethod
    def run(*command: str) -> tuple[int, str]:
        """Return exit code and output; 127 where there is no such command."""
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                env={**os.environ, "LC_ALL": "C", "PATH": path},
            )
        except FileNotFoundError:
            return 127, f"there is no {command[0]}"
        except subprocess.TimeoutExpired:
            return 124, f"{command[0]} took more than {_COMMAND_SECONDS} s"
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def do(self, *command: str) -> str:
        """Return a command's output; raises TableError where it fails."""
        code, output = self.run(*command)
        if code != 0:
            raise TableError(f"`{shlex.join(command)}` failed: {output.strip() or f'exit code {code}'}.")
        return output

    @staticmethod
    def session() -> str:
        """Return the SSH session that asks."""
        return session_of(os.getpid())

    def ssh_ports(self) -> list[int]:
        """Return where SSH is reached: by this session, by sshd's settings, and by systemd's socket for it."""
        ports = parse_sshd(self.run("sshd", "-T")[1])
        ports |= parse_socket(self.run("systemctl", "show", "--property=Listen", "ssh.socket")[1])
        words = self.session().split()
        return sorted(ports | ({int(words[3])} if len(words) == 4 else set()))

    @staticmethod
    def outward() -> list[str]:
        """Return the interfaces of the default routes."""
        found: set[str] = set()
        for name in ("route", "ipv6_route"):
            path = Path("/proc/net") / name
            found |= parse_routes(path.read_text()) if path.exists() else set()
        return sorted(found)


class Table:
    """One table and the files that it is loaded from."""

    def __init__(self, parameters: Mapping[str, Any], check_mode: bool, host: Host) -> None:
        """Take the module's parameters."""
        self._table = str(parameters["table"])
        self._rules = str(parameters["rules"] or "")
        self._kept = Path(parameters["kept"] or "/")
        self._seconds = int(parameters["seconds"])
        self._session = str(parameters["session"])
        self._check = check_mode
        self._host = host

    def query(self) -> dict[str, Any]:
        """Change nothing."""
        about = {"ssh_ports": self._host.ssh_ports(), "outward": self._host.outward()}
        return {"changed": False, "on": self._kept.is_file(), **about}

    def tried(self) -> dict[str, Any]:
        """Load the rules on trial, unless they are there and were kept."""
        if self._is_loaded() and self._is_kept():
            return {"changed": False}
        if not self._check:
            # Of a run that was killed: at no moment are there rules on trial without a timer.
            if self._on_trial():
                self.undone()
            self._start_timer()
            try:
                self._host.do("nft", "--file", self._rules)
            except TableError:
                self.undone()
                raise
        return {"changed": True}

    def kept(self) -> dict[str, Any]:
        """Keep the rules that are on trial."""
        if self._session and self._host.session() in {"", self._session}:
            raise TableError(
                "This was to be said over a new SSH connection, and came over the one that was there before, so nobody "
                "knows whether a new one works (is there a ControlPath in the SSH options of the inventory?)."
            )
        if not self._on_trial() or not self._is_loaded():
            raise TableError(f"The new rules are not in force any more: it took more than {self._seconds} s.")
        draft = self._kept.with_name(f".{self._kept.name}.draft")
        with draft.open("wb") as file:
            file.write(Path(self._rules).read_bytes())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._kept)
        self._host.do("systemctl", "stop", f"{UNDO}.timer")
        return {"changed": True}

    def undone(self) -> dict[str, Any]:
        """Do now what the timer would do later."""
        on_trial = self._on_trial()
        if on_trial:
            self._host.do("systemctl", "start", f"{UNDO}.service")
            self._host.do("systemctl", "stop", f"{UNDO}.timer")
        return {"changed": on_trial}

    def absent(self) -> dict[str, Any]:
        """Remove the table."""
        on_trial, there = self._on_trial(), self._live() != ""
        if not self._check:
            if on_trial:
                self._host.do("systemctl", "stop", f"{UNDO}.timer")
            if there:
                self._host.do("nft", "delete", "table", *self._table.split())
        return {"changed": on_trial or there}

    def _start_timer(self) -> None:
        kept, table = shlex.quote(str(self._kept)), self._table
        former = f"if [ -e {kept} ] && nft --file {kept}; then exit; fi"
        undo = f"{former}; ! nft list table {table} || nft delete table {table}"
        timer = [f"--on-active={self._seconds}", "--timer-property=AccuracySec=1s", "--service-type=oneshot"]
        self._host.do("systemd-run", "--quiet", "--collect", f"--unit={UNDO}", *timer, "sh", "-c", undo)

    def _on_trial(self) -> bool:
        return self._host.run("systemctl", "is-active", "--quiet", f"{UNDO}.timer")[0] == 0

    def _live(self) -> str:
        """Return the table as the kernel has it; empty where it has none."""
        return self._host.run("nft", "--stateless", "list", "table", *self._table.split())[1] if self._there() else ""

    def _there(self) -> bool:
        code, output = self._host.run("nft", "list", "tables")
        return code == 0 and f"table {self._table}" in output.splitlines()

    def _is_loaded(self) -> bool:
        """Return whether the kernel has exactly these rules: another network, made for it, has them to compare."""
        script = f"nft --file {shlex.quote(self._rules)} && nft --stateless list table {self._table}"
        return self._live() == self._host.do("unshare", "--net", "sh", "-c", script)

    def _is_kept(self) -> bool:
        return self._kept.is_file() and self._kept.read_bytes() == Path(self._rules).read_bytes()


def run(parameters: Mapping[str, Any], check_mode: bool, host: Host) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises TableError."""
    table = Table(parameters, check_mode, host)
    does: dict[str, Callable[[], dict[str, Any]]] = {
        "query": table.query,
        "tried": table.tried,
        "kept": table.kept,
        "undone": table.undone,
        "absent": table.absent,
    }
    return {"session": host.session(), **does[parameters["state"]]()}


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    files: Sequence[str] = ("rules", "kept")
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "tried", files), ("state", "kept", files)],
    )
    try:
        result = run(module.params, module.check_mode, Host())
    except TableError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The firewall can't be looked at or changed: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
