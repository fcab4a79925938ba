"""What the record of a run comes to: pure functions."""
