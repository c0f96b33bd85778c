#!/usr/bin/env bash
# Runs h2spec, the conformance suite of HTTP/2, against a real gateway, in plain text with prior knowledge, then over TLS.
#
# PORTICO_BIN is the gateway; the debug build when it is not set.
source "$(dirname "$0")/../tools/env.sh"

# What the pinned suite has. Fewer would mean that it did not run whole.
CASES=145
START_SECONDS_MAX=30
need h2spec "run tests/tools/install.sh"
need openssl "install openssl"
need python3 "install Python 3"

binary="${PORTICO_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/portico}"
[[ -n ${PORTICO_BIN:-} ]] || cargo build --quiet --locked --bin portico --manifest-path "$ROOT/Cargo.toml"

work="$(mktemp -d)"
gateway=""
finish() {
  if [[ -n $gateway ]]; then
    kill -INT "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
  fi
  rm -rf "$work"
}
trap finish EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log" || fail "openssl made no certificate"

# begin NAME VARIABLE... starts a gateway with these variables and sets `port`.
begin() {
  local name="$1"
  shift
  port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  env -i PATH="$PATH" PORTICO_LISTEN="127.0.0.1:$port" PORTICO_DATA="$work/$name" "$@" "$binary" serve >"$work/$name.log" 2>&1 &
  gateway=$!
  local deadline=$((SECONDS + START_SECONDS_MAX))
  until grep -qs "is open on" "$work/$name.log"; do
    if ((SECONDS >= deadline)) || ! kill -0 "$gateway" 2>/dev/null; then
      cat "$work/$name.log" >&2
      fail "the gateway did not start within $START_SECONDS_MAX s"
    fi
    sleep 0.1
  done
}

end() {
  kill -INT "$gateway"
  wait "$gateway" || fail "the gateway did not end well"
  gateway=""
}

# spec NAME PATH ARGUMENT... runs the suite.
spec() {
  local name="$1" path="$2"
  shift 2
  h2spec --host 127.0.0.1 --port "$port" --path "$path" --timeout 5 --junit-report "$work/$name.xml" "$@" >"$work/$name.out" 2>&1 || true
  # The exceptions are named in h2spec_known_failing.txt, with their reason; nothing else may fail.
  python3 "$ROOT/tests/conformance/h2spec.py" "$work/$name.xml" "$ROOT/tests/conformance/h2spec_known_failing.txt" "$CASES" && return
  cat "$work/$name.out" >&2
  fail "h2spec over $name found something in $path"
}

# Both answer without a key: a method, and a page.
begin plain
spec plain /health
spec page /
end
begin tls PORTICO_TLS_CERTIFICATE="$work/cert.pem" PORTICO_TLS_KEY="$work/key.pem"
spec tls /health --tls --insecure
end
