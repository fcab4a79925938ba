"""An apt repository beside what the host has already: found under any name, used, or refused; and all or nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apt_source import Apt, SourceError, checksum_problem, errors, parse_list, parse_sources, plain, run, switched_off

KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n"
SUM = f"sha256:{hashlib.sha256(KEY).hexdigest()}"
URI = "https://download.example.com/linux/debian"


class FakeApt(Apt):
    """apt whose lists are read by an update, where the entry's key is good."""

    def __init__(self, folder: Path, listed: bool = False, good: bool = True) -> None:
        """Take whether the lists are there, and whether they can be read."""
        super().__init__(folder)
        self.listed, self.good, self.read = listed, good, 0
        self.updates = folder / "updates"
        self.ran: list[tuple[str, ...]] = []

    def run(self, *command: str) -> tuple[int, str]:
        """Note a command; it fails where packages can't be configured."""
        self.ran.append(command)
        return (0, "") if self.good else (1, "dpkg: error\n")

    def lists(self, uri: str, suite: str) -> bool:
        """Return whether the lists were read."""
        assert (plain(uri), suite) == (plain(URI), "trixie")
        return self.listed

    def update(self, seconds: float) -> str:
        """Read them."""
        assert seconds == 5
        self.read += 1
        self.listed = self.good
        return "" if self.good else "E: The repository is not signed."


@pytest.fixture
def apt(tmp_path: Path) -> FakeApt:
    (tmp_path / "sources.list.d").mkdir()
    return FakeApt(tmp_path)


def add(apt: Apt, check_mode: bool = False, get: Callable[[str], bytes] = lambda _: KEY, **parameters: Any) -> Any:
    """Run the module."""
    defaults: dict[str, Any] = {
        "name": "docker",
        "state": "present",
        "uri": URI,
        "suite": "trixie",
        "components": ["stable"],
    }
    defaults |= {"architecture": "amd64", "key_url": f"{URI}/gpg", "key_checksum": SUM, "adopt": False}
    return run({**defaults, "setting": "docker_adopt", "lock_timeout": 5, **parameters}, check_mode, apt, get)


def files(apt: Apt) -> dict[str, str]:
    """Return all files of apt."""
    return {str(path.relative_to(apt.folder)): path.read_text() for path in apt.folder.rglob("*") if path.is_file()}


def theirs(apt: Apt, text: str, name: str = "other.list") -> Path:
    """Write somebody else's entry."""
    path = apt.folder / "sources.list.d" / name
    path.write_text(text)
    return path


def unread(_: str) -> bytes:
    raise AssertionError("nothing is to be downloaded")


# A host without it.


def test_key_and_entry_are_written_and_read_once(apt: FakeApt) -> None:
    former = os.umask(0o077)
    try:
        result = add(apt)
    finally:
        os.umask(former)
    assert (result["changed"], result["lists"], apt.read) == (True, True, 1)
    assert files(apt) == {
        "keyrings/docker.asc": KEY.decode(),
        "sources.list.d/docker.sources": "# Ansible managed\n# Written by evenkeel, role apt_repository.\nTypes: deb\n"
        f"URIs: {URI}\nSuites: trixie\nComponents: stable\nArchitectures: amd64\n"
        f"Signed-By: {apt.folder}/keyrings/docker.asc\n",
    }
    # apt reads them as a user of its own.
    assert stat.S_IMODE((apt.folder / "keyrings").stat().st_mode) == 0o755
    assert {stat.S_IMODE((apt.folder / name).stat().st_mode) for name in files(apt)} == {0o644}
    again = add(apt, get=unread)
    assert (again["changed"], again["lists"], apt.read) == (False, True, 1)
    assert add(apt, check_mode=True, get=unread)["lists"] is True


def test_check_mode_changes_nothing_and_shows_the_entry(apt: FakeApt) -> None:
    result = add(apt, check_mode=True, get=unread)
    assert (result["changed"], result["lists"], files(apt)) == (True, False, {})
    assert f"URIs: {URI}\n" in result["diff"]["after"]


def test_lists_left_unread_by_a_run_cut_off_are_read(apt: FakeApt) -> None:
    add(apt)
    apt.listed = False
    assert add(apt, get=unread)["changed"] is True
    assert apt.read == 2


@pytest.mark.parametrize(
    ("content", "words"), [(KEY + b"y", "has the checksum sha256:"), (b"<html>", "is no armored key")]
)
def test_wrong_key_changes_nothing(apt: FakeApt, content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        add(apt, get=lambda _: content)
    assert files(apt) == {}


def test_repository_that_cant_be_read_leaves_apt_as_it_was(apt: FakeApt) -> None:
    apt.good = False
    with pytest.raises(SourceError, match=r"apt was put back as it was\. apt says: E: The repository is not signed\."):
        add(apt)
    assert files(apt) == {}


def test_other_repository_that_cant_be_read_puts_the_former_back(apt: FakeApt) -> None:
    add(apt)
    before = files(apt)
    apt.good = apt.listed = False
    with pytest.raises(SourceError, match="put back"):
        add(apt, components=["test"])
    assert files(apt) == before
    # What a run cut off left is not put back, since it never worked.
    with pytest.raises(SourceError, match="put back"):
        add(apt)
    assert list(files(apt)) == ["keyrings/docker.asc"]


def test_key_without_checksum_is_kept(apt: FakeApt) -> None:
    add(apt, key_checksum="")
    assert add(apt, key_checksum="", get=unread)["changed"] is False
    other = KEY + b"y"
    add(apt, get=lambda _: other, key_checksum=f"sha256:{hashlib.sha256(other).hexdigest()}")
    assert files(apt)["keyrings/docker.asc"] == other.decode()


def test_file_of_a_former_release_is_ours(apt: FakeApt) -> None:
    (apt.folder / "keyrings").mkdir()
    (apt.folder / "keyrings" / "docker.asc").write_bytes(KEY)
    former = (
        f"#\n# Ansible managed\n#\nTypes: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\nArchitectures: amd64\n"
    )
    theirs(apt, f"{former}Signed-By: /etc/apt/keyrings/docker.asc\n", "docker.sources")
    apt.listed = True
    assert add(apt, get=unread)["used"].endswith("docker.sources")
    assert "Written by evenkeel" in files(apt)["sources.list.d/docker.sources"]


def test_dpkg_that_was_cut_off_is_finished_first(apt: FakeApt) -> None:
    apt.updates.mkdir()
    add(apt)
    assert apt.ran == []
    (apt.updates / "0001").touch()
    add(apt, check_mode=True)
    assert apt.ran == []
    add(apt)
    assert apt.ran == [("dpkg", "--force-confdef", "--force-confold", "--configure", "--pending")]
    apt.good = False
    with pytest.raises(SourceError, match="dpkg was interrupted on this host"):
        add(apt)


# A host that has it already.

SAME = [
    ("other.list", f"deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] {URI} trixie stable\n"),
    ("other.list", "# x\ndeb http://download.example.com/linux/debian/ trixie test stable # y\n"),
    ("docker.sources", f"Types: deb deb-src\nURIs: {URI}/\nSuites: bookworm trixie\nComponents: stable\n"),
    (
        "x.sources",
        f"Types: deb\nURIs: http://a/b\n {URI}\nSuites: trixie\nComponents: stable\nSigned-By:\n -----BEGIN\n .\n",
    ),
]


@pytest.mark.parametrize(("name", "text"), SAME)
@pytest.mark.parametrize("listed", [True, False])
def test_same_repository_of_others_is_used(apt: FakeApt, name: str, text: str, listed: bool) -> None:
    path = theirs(apt, text, name)
    apt.listed = listed
    before = files(apt)
    result = add(apt, get=unread)
    assert (result["used"], result["lists"], result["changed"]) == (str(path), True, not listed)
    assert files(apt) == before


def test_ours_goes_where_somebody_else_added_the_same(apt: FakeApt) -> None:
    add(apt)
    theirs(apt, SAME[0][1])
    assert add(apt, check_mode=True)["changed"] is True
    assert add(apt)["changed"] is True
    assert "sources.list.d/docker.sources" not in files(apt)


def test_unreadable_one_of_others_is_named(apt: FakeApt) -> None:
    theirs(apt, SAME[0][1])
    apt.good = False
    with pytest.raises(SourceError, match=r"other\.list has the repository .* docker_adopt: true switches it off"):
        add(apt)
    assert list(files(apt)) == ["sources.list.d/other.list"]


@pytest.mark.parametrize(("name", "text"), SAME[:2])
def test_adopting_switches_theirs_off_and_keeps_a_copy(apt: FakeApt, name: str, text: str) -> None:
    theirs(apt, f"deb http://other.example/x y z\n{text}", name)
    assert add(apt, adopt=True)["used"].endswith("docker.sources")
    found = files(apt)
    assert found[f"sources.list.d/{name}.before-evenkeel"] == f"deb http://other.example/x y z\n{text}"
    assert found[f"sources.list.d/{name}"].startswith("deb http://other.example/x y z\n")
    assert len([each for each in apt.entries() if each.enabled]) == 2
    assert add(apt, adopt=True, get=unread)["changed"] is False


def test_adopting_that_fails_puts_theirs_back(apt: FakeApt) -> None:
    theirs(apt, SAME[0][1])
    before = files(apt)
    apt.good = False
    with pytest.raises(SourceError, match="put back"):
        add(apt, adopt=True)
    assert files(apt) == before


def test_deb822_is_switched_off(apt: FakeApt) -> None:
    stanza = f"Types: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\nEnabled: yes\n"
    theirs(apt, f"# one\n\n{stanza}\nTypes: deb\nURIs: http://x\nSuites: y/\n", "x.sources")
    add(apt, adopt=True)
    assert [each.enabled for each in apt.entries() if each.file.name == "x.sources"] == [False, True]


def test_mixed_entry_is_not_switched_off(apt: FakeApt) -> None:
    theirs(apt, SAME[3][1], "x.sources")
    with pytest.raises(SourceError, match="together with others in one entry"):
        add(apt, adopt=True)


def test_entry_without_our_component_is_named(apt: FakeApt) -> None:
    theirs(apt, f"deb {URI} trixie test\n")
    with pytest.raises(SourceError, match="has the same repository, but not its stable for amd64"):
        add(apt)
    theirs(apt, f"deb [arch=arm64] {URI} trixie stable\n")
    with pytest.raises(SourceError, match="not its stable for amd64"):
        add(apt)


def test_other_suites_sources_and_disabled_ones_do_not_count(apt: FakeApt) -> None:
    lines = [
        f"deb-src {URI} trixie stable",
        f"deb {URI} sid stable",
        f"#deb {URI} trixie stable",
        f"deb {URI}/x trixie stable",
    ]
    theirs(apt, "\n".join(lines) + "\n")
    theirs(apt, f"Enabled: no\nTypes: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\n", "off.sources")
    assert add(apt)["used"].endswith("docker.sources")


def test_file_of_our_name_that_leads_elsewhere_is_refused(apt: FakeApt) -> None:
    theirs(apt, "Types: deb\nURIs: http://elsewhere\nSuites: trixie\nComponents: stable\n", "docker.sources")
    with pytest.raises(SourceError, match=r"docker\.sources was not written by this project, and leads elsewhere"):
        add(apt)
    add(apt, adopt=True)
    assert "elsewhere" in files(apt)["sources.list.d/docker.sources.before-evenkeel"]


def test_key_of_others_under_our_name_stays(apt: FakeApt) -> None:
    (apt.folder / "keyrings").mkdir()
    (apt.folder / "keyrings" / "docker.asc").write_text("theirs")
    add(apt)
    assert files(apt)["keyrings/docker.asc"] == "theirs"
    assert (
        "Signed-By: " + str(apt.folder / "keyrings/docker-evenkeel.asc") in files(apt)["sources.list.d/docker.sources"]
    )
    assert add(apt, get=unread)["changed"] is False


# Reading.


def test_uris_that_are_the_same() -> None:
    assert plain("HTTP://Download.example.com:80/linux//debian/") == plain(URI)
    assert plain("https://me:pw@download.example.com/linux/debian") == plain(URI)
    assert plain("http://download.example.com:8080/linux/debian") != plain(URI)


def test_entries_are_read() -> None:
    found = parse_list(
        Path("x.list"), "deb [ arch=amd64,arm64 signed-by=/k ] http://x/ y a b # c\n\n#deb http://z y a\n"
    )
    assert [(each.uris, each.components, each.architectures, each.lines) for each in found] == [
        (("http://x/",), ("a", "b"), ("amd64", "arm64"), (0, 1))
    ]
    stanza = "# c\ntypes: deb\nURIs: http://x\nSuites: y\nComponents: a\n b\n# c\nEnabled: No\n"
    (entry,) = parse_sources(Path("x.sources"), stanza)
    assert (entry.components, entry.enabled) == (("a", "b"), False)
    assert parse_sources(Path("x.sources"), switched_off(entry, stanza))[0].enabled is False


def test_apts_words_are_told_once() -> None:
    assert errors("Hit:1 x\nE: a\nE: a\nW: b\n") == "E: a W: b"


def test_checksum_must_be_sha256() -> None:
    assert "write it as sha256:<hex>" in checksum_problem(KEY, "md5:x", "u")
    assert checksum_problem(KEY, "", "u") == ""


# Taking it away.


def test_own_entry_and_key_go_and_others_stay(apt: FakeApt) -> None:
    theirs(apt, "deb https://example.com/debian trixie main\n")
    add(apt)
    before = files(apt)
    assert add(apt, state="absent", check_mode=True)["changed"] is True
    assert files(apt) == before
    result = add(apt, state="absent")
    gone = [str(apt.folder / "keyrings/docker.asc"), str(apt.folder / "sources.list.d/docker.sources")]
    assert (result["changed"], result["removed"], list(files(apt))) == (True, gone, ["sources.list.d/other.list"])
    assert add(apt, state="absent")["changed"] is False


def test_entry_of_somebody_else_stays_under_that_name(apt: FakeApt) -> None:
    path = theirs(apt, "Types: deb\nURIs: https://example.com\nSuites: x\n", "docker.sources")
    assert (add(apt, state="absent")["changed"], path.exists()) == (False, True)


def test_key_that_another_entry_names_stays(apt: FakeApt) -> None:
    add(apt)
    key = apt.folder / "keyrings" / "docker.asc"
    theirs(apt, f"deb [signed-by={key}] https://example.com/debian trixie main\n")
    add(apt, state="absent")
    assert sorted(files(apt)) == ["keyrings/docker.asc", "sources.list.d/other.list"]
