"""A whole site's hosts on this machine: containers or VMs (kinds), and a mirror of what can't be reached."""
