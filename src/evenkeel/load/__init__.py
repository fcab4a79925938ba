"""The honest load generator: ``python -m evenkeel.load URL`` sends on an absolute schedule (docs/load.md)."""
