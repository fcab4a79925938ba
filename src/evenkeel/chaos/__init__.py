"""Chaos runs (docs/report.md).

``run`` is what happens while one goes on. What it leaves is read by ``record``, judged by ``analysis`` and told by
``report``: each knows those before it, and none knows ``run``.
"""
