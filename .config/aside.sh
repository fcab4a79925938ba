#!/usr/bin/env bash
# Runs a command on the CPU time that others leave, as root: bash .config/aside.sh COMMAND...
# `nice` alone may not do that. Many kernels share the CPU among sessions first, and Ansible gives each of its processes
# a session of its own. So the command gets a group of its own, which counts as one session. Where there can't be one,
# `nice` is all.
set -euo pipefail

for share in cpu/evenkeel-aside/cpu.shares=1024 evenkeel-aside/cpu.weight=100; do
  file="/sys/fs/cgroup/${share%=*}"
  group="${file%/*}"
  if mkdir -p "$group" && echo "${share#*=}" >"$file" && echo $$ >"$group/cgroup.procs"; then break; fi
done 2>&-
exec nice -n 19 "$@"
