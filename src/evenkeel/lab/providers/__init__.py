"""What runs VMs on this machine: each way is a module."""
