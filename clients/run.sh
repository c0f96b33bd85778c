#!/usr/bin/env bash
# Runs the test clients against a gateway: Go, TypeScript (Node and Chromium), Python, and off-the-shelf tools.
#
# usage: run.sh [go|ts|python|tools]...      all of them when none is named
#
# With PORTICO_URL and PORTICO_KEY (an admin key) they call that gateway, which should run with PORTICO_LIMITS=off and
# PORTICO_CORS_ORIGINS=*.
# Otherwise PORTICO_BIN (the debug build) is started on a free port of the loopback, with empty data, and ended afterwards.
source "$(dirname "$0")/../tests/tools/env.sh"
cd "$ROOT/clients"

START_SECONDS_MAX=20
work="$(mktemp -d)"
gateway=""
finish() {
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
  fi
  rm -rf "$work"
}
trap finish EXIT

start_gateway() {
  local binary="${PORTICO_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/portico}" port deadline
  [[ -x $binary ]] || fail "$binary is not there: run cargo build, or set PORTICO_URL and PORTICO_KEY"
  port="$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  export PORTICO_URL="http://127.0.0.1:$port" PORTICO_KEY="pod_admin_clients_0123456789abcdefghij"
  # Nothing but this: the gateway refuses variables of ours that it does not know, as the tests' own.
  env -i PATH="$PATH" HOME="$HOME" PORTICO_LISTEN="127.0.0.1:$port" PORTICO_DATA="$work/data" \
    PORTICO_ADMIN_KEY="$PORTICO_KEY" PORTICO_LIMITS=off PORTICO_CORS_ORIGINS='*' \
    "$binary" serve >"$work/gateway.log" 2>&1 &
  gateway=$!
  deadline=$((SECONDS + START_SECONDS_MAX))
  until curl --silent --fail --output /dev/null "$PORTICO_URL/health"; do
    if ((SECONDS >= deadline)) || ! kill -0 "$gateway" 2>/dev/null; then
      cat "$work/gateway.log" >&2
      fail "the gateway did not answer $PORTICO_URL/health within $START_SECONDS_MAX s"
    fi
    sleep 0.1
  done
}

run_go() { go -C go test -count=1 .; }
run_ts() { npm --prefix ts test --silent; }
run_python() {
  local protos
  mapfile -t protos < <(find "$ROOT/proto" -name '*.proto' -not -path '*/grpc/*')
  rm -rf python/gen && mkdir -p python/gen &&
    python -m grpc_tools.protoc -I "$ROOT/proto" --python_out=python/gen --grpc_python_out=python/gen "${protos[@]}" &&
    python -m pytest -q -p no:cacheprovider python
}

run_tools() { ./tools.sh; }

need curl "install curl"
need python "run tests/tools/install.sh"

# The echo agent as a bundle: the same bytes every time, so that uploading it again is a retry and not a conflict.
export PORTICO_BUNDLE="$work/echo.tar.gz"
tar -C "$ROOT/examples/agents/echo" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . | gzip -n >"$PORTICO_BUNDLE"

[[ -n ${PORTICO_URL:-} ]] || start_gateway
[[ -n ${PORTICO_KEY:-} ]] || fail "PORTICO_URL is set, but PORTICO_KEY is not"

(($#)) || set -- go ts python tools
failed=()
for client in "$@"; do
  echo "--> $client client against $PORTICO_URL"
  "run_$client" || failed+=("$client")
done

if ((${#failed[@]})); then
  [[ -z $gateway ]] || { echo "--- the gateway's last lines:" && tail -n 40 "$work/gateway.log"; } >&2
  fail "these clients failed: ${failed[*]}"
fi
echo "all clients passed: $*"
