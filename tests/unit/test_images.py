"""The filters of images: what one is built from, and where one is pulled from."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from images import folder_bases, folder_digest, folder_files, registries_config, registry_problem


def test_digest_follows_names_contents_and_rights(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run").write_text("a")
    seen = {folder_digest(str(tmp_path))}
    for change in (
        lambda: (tmp_path / "sub" / "run").chmod(0o755),
        lambda: (tmp_path / "sub" / "run").write_text("b"),
        lambda: (tmp_path / "sub" / "run").rename(tmp_path / "sub" / "other"),
    ):
        change()
        seen.add(folder_digest(str(tmp_path)))
    assert len(seen) == 4
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("z")
    assert folder_digest(str(tmp_path)) in seen
    assert folder_files(str(tmp_path)) == ["Dockerfile", "sub/other"]
    (tmp_path / "Dockerfile").unlink()
    with pytest.raises(AnsibleFilterError, match="has no Dockerfile"):
        folder_digest(str(tmp_path))


def test_base_images_are_read_from_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE=python:3.13\nARG OTHER\nfrom --platform=linux/amd64 golang:1.24 as build\nFROM ${BASE}\n"
        "COPY --from=build /a /a\nFROM build AS last\nFROM scratch\nFROM $OTHER\nFROM $BASE\n"
    )
    assert folder_bases(str(tmp_path)) == ["golang:1.24", "python:3.13"]
    assert folder_bases(str(tmp_path), {"OTHER": "a:1", "BASE": "b:2"}) == ["golang:1.24", "b:2", "a:1"]


def test_logins_are_written_as_docker_reads_them() -> None:
    logins = {
        "r.example.com:5000": {"username": "me", "password": "a:b"},
        "docker.io": {"username": "x", "password": "y"},
    }
    auths = json.loads(registries_config(logins))["auths"]
    assert base64.b64decode(auths["r.example.com:5000"]["auth"]) == b"me:a:b"
    assert list(auths) == ["https://index.docker.io/v1/", "r.example.com:5000"]


@pytest.mark.parametrize(
    ("reference", "message", "wanted"),
    [
        ("r.example.com/a:1", "401 Unauthorized", "check the login of r.example.com in site_registries"),
        ("other.example.com:5000/a:1", "no basic auth credentials", "add other.example.com:5000 to site_registries"),
        ("team/a:1", "pull access denied", "add docker.io to site_registries"),
        ("r.example.com/a:1", "dial tcp: no route to host", "The engine said: dial tcp: no route to host"),
    ],
)
def test_pull_that_fails_is_one_sentence_with_its_mend(reference: str, message: str, wanted: str) -> None:
    found = registry_problem("one", "pull", reference, message, {"r.example.com": {}})
    assert found.startswith(f"one can't pull {reference}, and nothing was stopped.")
    pushed = registry_problem("one", "push", reference, message, {"r.example.com": {}})
    assert pushed == found.replace("can't pull", "can't push")
    assert wanted in found
