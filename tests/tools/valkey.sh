#!/usr/bin/env bash
# Unpacks Valkey 8 into the tool cache: Debian trixie's package, run by trixie's own loader (tests/support/valkey.rs).
source "$(dirname "$0")/env.sh"
"$ROOT/tests/tools/trixie.sh" "$PORTICO_TOOLS/trixie" valkey-server valkey-tools >/dev/null ||
  fail "Valkey could not be fetched from Debian trixie's packages"
