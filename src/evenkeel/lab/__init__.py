"""A whole site's hosts on this machine: containers that run systemd and sshd, and a mirror of what can't be reached."""
