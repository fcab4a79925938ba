#!/usr/bin/env bash
# Prints the Python that the project's tools shall run on: the newest supported one that is found, or the one named by the
# argument (3.11, python3.12, /path/to/python3). What else it has to say goes to standard error.
set -euo pipefail
supported="3.14 3.13 3.12 3.11"
wanted="${1:-}"
[[ " $supported " != *" ${wanted#python} "* ]] || wanted="${wanted#python}"

# "3.13 venv /path" of an interpreter, or nothing. Only running it tells: pyenv has names in PATH that it does not run.
# A virtual environment's Python stands for the one that it was made from.
describe() {
  "$1" -c 'import importlib.util, sys
able = all(importlib.util.find_spec(name) for name in ("ensurepip", "venv"))
print("%d.%d" % sys.version_info[:2], "venv" if able else "bare", getattr(sys, "_base_executable", sys.executable))' 2>/dev/null
}

# Prints the interpreter's path if it can make virtual environments. Debian's and Ubuntu's own learns it from a package.
take() {
  local version state path
  read -r version state path <<<"$1"
  if [[ $state == bare ]]; then
    [[ $path == /usr/bin/* ]] || return 1
    echo "make: installing python$version-venv, which $path lacks" >&2
    local sudo=()
    [[ $(id -u) == 0 ]] || sudo=(sudo)
    { "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -qy --no-install-recommends "python$version-venv"; } >&2 ||
      return 1
  fi
  echo "$path"
}

versions="$supported"
if [[ " $supported " == *" $wanted "* ]]; then
  versions="$wanted"
elif [[ -n $wanted ]]; then
  about="$(describe "$wanted")" || { echo "make: PYTHON=$wanted does not run" >&2; exit 1; }
  [[ " $supported " == *" ${about%% *} "* ]] ||
    { echo "make: PYTHON=$wanted is Python ${about%% *}; supported are ${supported// /, }" >&2; exit 1; }
  take "$about" || { echo "make: PYTHON=$wanted cannot make virtual environments: install its venv module" >&2; exit 1; }
  exit
fi

for version in $versions; do
  mapfile -t found < <(type -aP "python$version" python3)
  found+=("${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python3)
  for path in "${found[@]}"; do
    if about="$(describe "$path")" && [[ $about == "$version "* ]] && take "$about"; then
      exit
    fi
  done
done
echo "make: no Python of ${versions// /, } was found in PATH or among pyenv's versions: install one with its venv module," \
  "or name one: make PYTHON=/path/to/python3" >&2
exit 1
