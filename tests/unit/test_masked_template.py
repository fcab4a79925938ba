"""Diffs without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.action.template import ActionModule as TemplateAction

from masked_template import MASK, ActionModule, masked

BEFORE = """[smtp]
password = old one
user = somebody
[database]
url = mysql://grafana:hunter2@db.example.com/grafana
"""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("password = geheim", f"password = {MASK}"),
        (";secret_key = SW2YcwTIb9zpOOhoPsMm", f";secret_key = {MASK}"),
        ('client_secret = """a#b"""', f"client_secret = {MASK}"),
        ("api_token: abc", f"api_token: {MASK}"),
        ('  "bind_password": "abc",', f'  "bind_password": {MASK}'),
        ('Environment="SMTP_PASSWORD=abc def"', f'Environment="SMTP_PASSWORD={MASK}'),
        ("connstr = addr=10.0.0.1,password=abc", f"connstr = {MASK}"),
        ("url = postgres://user:a/b:c@host/x", f"url = postgres://user:{MASK}@host/x"),
        ('"http-proxy": "http://me:word@proxy:3128"', f'"http-proxy": "http://me:{MASK}@proxy:3128"'),
        # What is no secret stays.
        ("user = somebody", "user = somebody"),
        ("password =", "password ="),
        ("token_url = https://example.com/token", "token_url = https://example.com/token"),
        ("disable_initial_password = true", "disable_initial_password = true"),
        ("host = mail.example.com:25", "host = mail.example.com:25"),
        ("# The password comes from a vault.", "# The password comes from a vault."),
    ],
)
def test_secret_of_a_line_is_masked_and_nothing_else(line: str, shown: str) -> None:
    assert masked(line)[0] == shown


def test_value_of_several_lines_is_masked_whole() -> None:
    text = '[auth]\nprivate_key = """first\nsecond\nthird"""\nuser = me'
    assert masked(text)[0] == f"[auth]\nprivate_key = {MASK}\nuser = me"


def run(diff: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the diff as the task shows it, where Ansible's own action had ``diff``."""
    monkeypatch.setattr(TemplateAction, "run", lambda *_: {"changed": True, "diff": diff})
    return ActionModule.run(object.__new__(ActionModule))["diff"]


def test_both_sides_are_masked_and_a_change_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    after = BEFORE.replace("old one", "new one").replace("somebody", "another")
    (diff,) = run([{"before": BEFORE, "after": after, "after_header": "x"}], monkeypatch)
    for secret in ("old one", "new one", "hunter2"):
        assert secret not in str(diff)
    assert f"password = {MASK}\n" in diff["before"]
    assert f"password = {MASK} (changed)\nuser = another\n" in diff["after"]


def test_unchanged_secret_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    diff = run({"before": BEFORE, "after": BEFORE}, monkeypatch)
    assert diff["before"] == diff["after"]


def test_text_that_is_a_diff_already_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "geheim" not in str(run([{"prepared": "+password = geheim"}], monkeypatch))


def test_result_without_a_diff_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([], monkeypatch) == []
