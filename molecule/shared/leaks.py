"""Where a secret shows that nobody is to see."""

from __future__ import annotations

from typing import Any

# Everywhere but in what is the container's own: as somebody without rights, what runs, and what the engine tells.
_SCAN = """
find /etc /home /opt /run /srv /tmp /usr/local /var -xdev -type f -size -2M -readable 2>/dev/null |
  setpriv --reuid=65534 --regid=65534 --clear-groups xargs -d '\\n' grep -lsF -e {secret}
for file in /proc/[0-9]*/cmdline; do
  tr '\\0' ' ' 2>/dev/null <$file | grep -F -e {secret} | grep -vF 'grep ' | grep -vF SCAN
done
for container in $(docker ps --all --quiet 2>/dev/null); do
  docker inspect $container | grep -F -e {secret} | sed "s/^/docker inspect $container: /"
done
true
"""


def seen(host: Any, secret: str) -> list[str]:
    """Return where on a host somebody without rights finds a secret, the command lines and what of containers holds it.

    Args:
        host: the host.
        secret: a text without signs that mean something to a shell.
    """
    return [line for line in host.check_output(f": SCAN; {_SCAN.format(secret=secret)}").splitlines() if line]
