"""What all tests share."""

from __future__ import annotations

import os

# All that they ask is on this machine: no proxy of the developer's may come between.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
