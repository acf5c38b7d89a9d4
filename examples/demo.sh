#!/usr/bin/env bash
# The demo of `make demo`: the digits pipeline, run, run again, and run with one parameter changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
unset "${!KART_@}"
rm -rf resources # only what earlier demos made: the first run shall have everything to do

show() { # what it shows, the command
  printf '\n\033[1m%s\033[0m\n$ %s\n' "$1" "$2"
  eval "$2"
}

show "1. The first run: everything is missing, everything runs." "python digits.py Report"
show "2. The same again: everything is stored, nothing runs." "python digits.py Report"
show "3. One parameter changed. What will run, and why?" "kart-core plan digits:Report --gammas '[0.001, 0.1]'"
show "4. Only what depends on it runs: one training, its evaluation, the report." \
  "python digits.py Report --gammas '[0.001, 0.1]'"

printf '\nThe pictures:\n'
find "$PWD/resources" -name '*.png' | sort
