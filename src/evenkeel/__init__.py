"""What runs on the control node beside Ansible."""
