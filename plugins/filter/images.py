"""Filters of the images that services run: what one is built from, where one is pulled from, and what went wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Docker Hub's name in Docker's own configuration.
_HUB = "https://index.docker.io/v1/"
# What is not sent to the builder, and counts for no tag.
_NO_SOURCES = {".git", "__pycache__"}


def registries_config(registries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Docker's ``config.json`` with logins.

    Args:
        registries: ``username`` and ``password`` by registry; Docker Hub is ``docker.io``.
    """
    auths = {}
    for name, login in registries.items():
        pair = f"{login['username']}:{login['password']}"
        key = _HUB if name in {"docker.io", "index.docker.io"} else name
        auths[key] = {"auth": base64.b64encode(pair.encode()).decode()}
    return json.dumps({"auths": auths}, indent=2, sort_keys=True) + "\n"


def registry_problem(host: str, action: str, reference: str, message: str, registries: Mapping[str, Any]) -> str:
    """Return why an image can't be pulled or pushed, and how to mend that, a sentence.

    Args:
        host: who does it.
        action: ``pull`` or ``push``.
        reference: the image.
        message: what the engine said.
        registries: those with a login.
    """
    first = reference.partition("/")[0]
    registry = first if re.search(r"[.:]|^localhost$", first) and "/" in reference else "docker.io"
    said = " ".join(message.split())
    sentence = f"{host} can't {action} {reference}, and nothing was stopped."
    if re.search(r"unauthorized|authentication|denied|credential|401|403", said, re.IGNORECASE):
        known = registry in registries
        what = f"check the login of {registry} in site_registries" if known else f"add {registry} to site_registries"
        return f"{sentence} The registry refuses that: {what}, and the image's name. It said: {said}"
    return f"{sentence} The engine said: {said}"


def folder_digest(folder: str) -> str:
    """Return a hash of all files of a folder: names, rights to execute, contents; 12 hexadecimal digits.

    Raises:
        AnsibleFilterError: no such folder, or no Dockerfile in it.
    """
    root = Path(folder).expanduser()
    if not (root / "Dockerfile").is_file():
        raise AnsibleFilterError(f"{root} has no Dockerfile, so nothing can be built from it.")
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _NO_SOURCES & set(path.relative_to(root).parts):
            kept = path.relative_to(root).as_posix(), path.stat().st_mode & 0o111 != 0
            whole.update(f"{kept}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:12]


def folder_bases(folder: str, args: Mapping[str, Any] | None = None) -> list[str]:
    """Return the images that a folder's Dockerfile builds on, without its own stages and those it leaves open.

    Args:
        folder: where it lies.
        args: the build's arguments, which beat the Dockerfile's own.
    """
    known: dict[str, str] = {}
    stages, bases = {"scratch"}, []
    for line in (Path(folder).expanduser() / "Dockerfile").read_text(encoding="utf-8").splitlines():
        argument = re.match(r"\s*ARG\s+(\w+)(?:=(\S*))?\s*$", line, re.IGNORECASE)
        if argument:
            known[argument[1]] = str((args or {}).get(argument[1], argument[2] or "")).strip("\"'")
        source = re.match(r"\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$", line, re.IGNORECASE)
        if source:
            image = re.sub(r"\$\{?(\w+)\}?", lambda name: known.get(name[1], ""), source[1])
            if image and image.lower() not in stages and "$" not in image:
                bases.append(image)
            stages.add((source[2] or "scratch").lower())
    return list(dict.fromkeys(bases))


def folder_files(folder: str) -> list[str]:
    """Return the files of a folder that count for :func:`folder_digest`, relative to it."""
    root = Path(folder).expanduser()
    found = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if not _NO_SOURCES & set(path.parts)]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "folder_bases": folder_bases,
            "folder_digest": folder_digest,
            "folder_files": folder_files,
            "registry_problem": registry_problem,
            "registries_config": registries_config,
        }
