#!/usr/bin/env bash
# Installs the Python packages into a virtual environment of their own.
source "$(dirname "$0")/env.sh"
need python3 "install Python 3.10 or newer, with its venv module"

wanted="$ROOT/tests/tools/python/requirements.txt"
home="$PORTICO_TOOLS/python"
cmp -s "$wanted" "$home/.installed" && exit 0

rm -rf "$home"
python3 -m venv "$home" || fail "python3 -m venv failed; on Debian install python3-venv"
"$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" ||
  fail "pip could not install the packages of tests/tools/python/requirements.txt"
cp "$wanted" "$home/.installed"
