#!/usr/bin/env bash
# Compares proto/ with what main has: nothing that a caller relies on, on the wire or in JSON, may have changed.
#
# The base is where this branch left origin/main (or main, in a clone without remote); PORTICO_BREAKING_BASE names another
# commit. Only what git has here is used, so that a shallow clone works. What cannot be compared is said.
source "$(dirname "$0")/env.sh"
need buf "run tests/tools/install.sh"
cd "$ROOT"

pass() {
  echo "buf breaking: $*"
  exit 0
}

base="${PORTICO_BREAKING_BASE:-}"
if [[ -z $base ]]; then
  main="$(git rev-parse --verify --quiet 'origin/main^{commit}' || git rev-parse --verify --quiet 'main^{commit}')" ||
    pass "nothing to compare with: this clone has no main"
  base="$(git merge-base HEAD "$main")" ||
    pass "nothing to compare with: this clone does not reach the commit where it left main"
fi
[[ -n "$(git ls-tree -r --name-only "$base" -- proto | grep '\.proto$' || true)" ]] ||
  pass "nothing to compare with: main ($(git rev-parse --short "$base")) has no proto files yet"
git diff --quiet "$base" -- proto && pass "proto/ is the same as main's ($(git rev-parse --short "$base"))"

was="$(mktemp -d)"
trap 'rm -rf "$was"' EXIT
git archive "$base" proto | tar -x -C "$was"
cp buf.yaml "$was/"
buf breaking --against "$was"
echo "buf breaking: nothing breaks against main ($(git rev-parse --short "$base"))"
