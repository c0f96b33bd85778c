#!/usr/bin/env bash
# Runs the official Connect conformance suite against our own mount (examples/conformance_server.rs).
#
# usage: connect.sh [TESTEE [ARGUMENT...]]     TESTEE replaces our mount, to see how another server fares
source "$(dirname "$0")/../tools/env.sh"

# Below the 7,288 cases that connect.yaml gives with the pinned suite, so that a narrowed configuration cannot pass.
CASES_MIN=7200
folder="$ROOT/tests/conformance"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

if grep -qvE '^\s*(#|$)' "$folder/connect_known_failing.txt"; then
  fail "connect_known_failing.txt names cases: it is empty and stays so"
fi
need connectconformance "run tests/tools/install.sh"

if (($# == 0)); then
  cargo build --locked --example conformance_server --manifest-path "$ROOT/Cargo.toml"
  set -- "${CARGO_TARGET_DIR:-$ROOT/target}/debug/examples/conformance_server"
fi

connectconformance --conf "$folder/connect.yaml" --mode server -- "$@" 2>&1 | tee "$log" || fail "the Connect suite failed"

# The runner ends with "Total cases: N" and "N passed, N failed".
total="$(sed -n 's/^Total cases: //p' "$log")"
passed="$(sed -nE 's/^([0-9]+) passed, 0 failed$/\1/p' "$log")"
[[ -n $total && $passed == "$total" ]] || fail "the Connect suite's summary does not say that every case passed"
((total >= CASES_MIN)) || fail "the Connect suite ran $total cases, fewer than $CASES_MIN: its configuration was narrowed"
