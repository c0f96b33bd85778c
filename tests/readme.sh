#!/usr/bin/env bash
# Runs the tour of README.md, word for word: every block marked `sh`, in order, in one shell, against a new gateway.
#
# PORTICO_BIN is the gateway; the debug build when it is not set.
source "$(dirname "$0")/tools/env.sh"
cd "$ROOT"

START_SECONDS_MAX=30
binary="${PORTICO_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/portico}"
[[ -x $binary ]] || fail "$binary is not there: run cargo build"
need curl "install curl"
need python3 "install Python 3"

work="$(mktemp -d)"
gateway=""
finish() {
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
  fi
  rm -rf "$work" clients/go/hello clients/ts/hello.ts
}
trap finish EXIT

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
export PORTICO_URL="http://127.0.0.1:$port" PORTICO_KEY="pod_admin_readme_0123456789abcdefghijk"
env -i PATH="$PATH" HOME="$HOME" PORTICO_LISTEN="127.0.0.1:$port" PORTICO_DATA="$work/data" PORTICO_ADMIN_KEY="$PORTICO_KEY" \
  "$binary" serve >"$work/gateway.log" 2>&1 &
gateway=$!
deadline=$((SECONDS + START_SECONDS_MAX))
until curl --silent --fail --output /dev/null "$PORTICO_URL/health"; do
  if ((SECONDS >= deadline)) || ! kill -0 "$gateway" 2>/dev/null; then
    cat "$work/gateway.log" >&2
    fail "the gateway did not answer within $START_SECONDS_MAX s"
  fi
  sleep 0.1
done

# The binary that is tested goes before the one that `make run` builds.
mkdir "$work/bin" && ln -s "$(realpath "$binary")" "$work/bin/portico"
export PATH="$work/bin:$PATH"
sed -n '/^```sh$/,/^```$/{ /^```/!p; /^```$/s/.*//p; }' README.md >"$work/tour.sh"
(($(wc -l <"$work/tour.sh") > 40)) || fail "README.md holds no tour"

bash -euo pipefail -x "$work/tour.sh" || {
  tail -n 20 "$work/gateway.log" >&2
  fail "the tour of README.md does not work"
}
echo "the tour of README.md works"
