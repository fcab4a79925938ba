#!/usr/bin/env bash
# Says what failed in `make test`, which has said it thousands of lines above its end: bash .config/failed.sh FOLDER
# FOLDER has test.log, all that was printed, and a file NAME.failed of each scenario, empty if nothing failed.
set -euo pipefail

printf '\nWhat failed:\n'
# Targets of make, unit tests and steps of molecule.
sed -E 's/\x1b\[[0-9;]*m//g' "$1/test.log" | grep -E '^make.*\*\*\* \[|^(FAILED|ERROR) [^ ]+\.py|Executed: Failed' | LC_ALL=C sort -u || true
for failed in "$1"/*.failed; do
  [[ ! -s "$failed" ]] || { printf '\nIn %s:\n' "$(basename "$failed" .failed)"; head -c 6000 "$failed"; }
done
