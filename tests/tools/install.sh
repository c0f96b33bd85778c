#!/usr/bin/env bash
# Installs everything that the tests need beside Rust. A second run finds it all and takes a few seconds.
source "$(dirname "$0")/env.sh"

# One install at a time: the cache may be shared by several clones.
exec 9>"$PORTICO_TOOLS/.lock"
flock 9

for part in apt node python go protobuf-runner valkey prometheus compose; do
  step "install: $part" "$ROOT/tests/tools/$part.sh"
done
