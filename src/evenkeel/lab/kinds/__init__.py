"""What the hosts of a lab can be: each kind is a module."""
