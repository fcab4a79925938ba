"""Runs a command with the words of ``ARGS`` behind it: ``python -m evenkeel.arguments ansible-playbook site.yml``.

``make`` hands ARGS to a shell, which takes the quotes of JSON for its own. Here JSON is left as it is, quoted or not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

# A part of a word: in single quotes, in double quotes, behind a backslash, or plain.
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)""", re.DOTALL)
_JSON_TOKEN = re.compile(r"""("(?:[^"\\]|\\.)*")|([{\[])|([}\]])|(.)""", re.DOTALL)


def words(text: str) -> list[str]:
    """Split a line into words as a shell does, but expand nothing, and keep a word that starts as JSON whole.

    Raises:
        ValueError: a quote or a bracket is not closed.
    """
    found: list[str] = []
    place = 0
    while True:
        place += len(text[place:]) - len(text[place:].lstrip())
        if place == len(text):
            return found
        end = _json_end(text, place) if text[place] in "{[" else None
        if end:
            found.append(text[place:end])
            place = end
            continue
        word = ""
        while place < len(text) and not text[place].isspace():
            part = _PART.match(text, place)
            if not part:
                raise ValueError(f"a quote is not closed: {text[place:]}")
            single, double, escaped, plain = part.groups()
            word += re.sub(r'\\(["\\$`])', r"\1", double) if double is not None else single or escaped or plain or ""
            place = part.end()
        found.append(word)


def _json_end(text: str, start: int) -> int:
    depth = 0
    for token in _JSON_TOKEN.finditer(text, start):
        depth += bool(token[2]) - bool(token[3])
        if depth == 0:
            return token.end()
    raise ValueError(f"a bracket is not closed: {text[start:]}")


def main(command: Sequence[str] | None = None) -> None:
    """Replace this process by the command with ARGS' words."""
    command = list(sys.argv[1:] if command is None else command)
    try:
        more = words(os.environ.get("ARGS", ""))
    except ValueError as error:
        sys.exit(f"make: ARGS: {error}")
    os.execvp(command[0], [*command, *more])


if __name__ == "__main__":
    main()
