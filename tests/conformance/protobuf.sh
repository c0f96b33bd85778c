#!/usr/bin/env bash
# Runs protobuf's conformance suite, required and recommended cases, against the testee built from this tree.
# Fails on any failure that protobuf_known_failing.txt does not list, and on any listed case that passes.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)

cd "$root"
cargo build --quiet --locked --example protobuf_conformance
testee=${CARGO_TARGET_DIR:-$root/target}/debug/examples/protobuf_conformance

read -ra runner <<<"$(tests/tools/protobuf-runner.sh)"
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

status=0
"${runner[@]}" --enforce_recommended --maximum_edition 2023 \
    --failure_list tests/conformance/protobuf_known_failing.txt \
    --output_dir "$output" "$testee" >"$output/log" 2>&1 || status=$?
if [[ $status -ne 0 ]]; then
    cat "$output/log" >&2
fi
echo "protobuf conformance: $(grep 'CONFORMANCE SUITE' "$output/log" | head -n 1)"
exit "$status"
