#!/usr/bin/env bash
# Runs what docs/guides/operate.md says of an embedded gateway, word for word: backs it up while it runs, loses its data,
# restores it, and compares what callers see. Then replaces the sealing key, and the pepper of API keys.
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
stop() {
  [[ -n $gateway ]] || return 0
  kill -"$1" "$gateway"
  # A process that was killed answers with its signal.
  wait "$gateway" || [[ $1 == KILL ]] || fail "the gateway did not end well"
  gateway=""
}
finish() {
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
  fi
  rm -rf "$work"
}
trap finish EXIT

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
url="http://127.0.0.1:$port"
admin="pod_admin_operate_0123456789abcdefghij"

# What the blocks of the guide use.
export PORTICO_DATA="$work/data" BACKUPS="$work/backups" BACKUP_KEYS="$work/keys"

start() {
  env -i PATH="$PATH" HOME="$HOME" PORTICO_LISTEN="127.0.0.1:$port" PORTICO_DATA="$PORTICO_DATA" \
    PORTICO_ADMIN_KEY="$admin" "$binary" serve >"$work/gateway.log" 2>&1 &
  gateway=$!
  local deadline=$((SECONDS + START_SECONDS_MAX))
  until curl --silent --fail --output /dev/null "$url/health"; do
    if ((SECONDS >= deadline)) || ! kill -0 "$gateway" 2>/dev/null; then
      cat "$work/gateway.log" >&2
      fail "the gateway did not answer within $START_SECONDS_MAX s"
    fi
    sleep 0.1
  done
}

# ask KEY PATH CURL-ARGUMENT...
ask() {
  local key="$1" path="$2"
  shift 2
  curl --silent --show-error --fail-with-body "$url$path" -H "Authorization: Bearer $key" "$@"
}

# The blocks marked `sh` under this heading of the guide, run in a shell of their own.
guide() {
  awk -v heading="$1" '
    !inside && /^#+ / { here = ($0 == heading) }
    here && $0 == "```sh" { inside = 1; next }
    inside && $0 == "```" { inside = 0; next }
    inside' docs/guides/operate.md >"$work/block.sh"
  [[ -s $work/block.sh ]] || fail "docs/guides/operate.md has no commands under \"$1\""
  bash -euo pipefail -x "$work/block.sh" || fail "what docs/guides/operate.md says under \"$1\" does not work"
}

# What callers see of what is kept, with the key that was made before.
seen() {
  ask "$tenant_key" /api/v1/deployments
  ask "$admin" "/api/v1/secrets/echo?tenant_id=acme&reveal=true"
  # When a key was last used is noted in the background, and is no loss.
  ask "$admin" "/api/v1/keys?tenant_id=acme" | python3 -c '
import json, sys
for key in json.load(sys.stdin)["keys"]:
    key.pop("last_used_at", None)
    print(json.dumps(key, sort_keys=True))'
}

upload() {
  ask "$admin" /api/v1/deployments -F agent_type=echo -F "version=$1" -F "file=@$work/echo.tar.gz" >/dev/null
}

start
tenant_key="$(ask "$admin" /api/v1/keys --json '{"tenant_id": "acme", "name": "operate"}' |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])')"
tar -czf "$work/echo.tar.gz" -C examples/agents/echo .
upload 1.0.0
ask "$tenant_key" /api/v1/secrets/echo -X PUT --json '{"API_KEY": "s3cret"}' >/dev/null
seen >"$work/before"
grep -q s3cret "$work/before" || fail "the secret is not shown to the administrator"

guide "### Back up an embedded gateway"
# Later than the backup, so it must be gone afterwards.
upload 2.0.0
stop KILL
rm -rf "$PORTICO_DATA"

guide "### Restore an embedded gateway"
start
seen >"$work/after"
diff "$work/before" "$work/after" || fail "what was restored is not what was backed up"
# The bundle is there too, not only its record, and the gateway works on.
ask "$tenant_key" /api/v1/instances --json '{"agent_type": "echo", "agent_id": "echo-1"}' >/dev/null
upload 2.0.0

# The sealing key is replaced as the guide says, and the old one goes when the log allows it.
old_key="$(grep -v '^#' "$PORTICO_DATA/secrets.key")"
new_key="$(python3 -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())')"
for keys in "$new_key $old_key" "$new_key"; do
  stop INT
  printf '%s\n' $keys >"$PORTICO_DATA/secrets.key"
  start
  deadline=$((SECONDS + START_SECONDS_MAX))
  until grep -q "all stored secrets are sealed with the current key" "$work/gateway.log"; do
    ((SECONDS < deadline)) || fail "the gateway did not say that the old sealing key can go"
    sleep 0.1
  done
done
ask "$admin" "/api/v1/secrets/echo?tenant_id=acme&reveal=true" | grep -q s3cret || fail "a secret was lost with the old key"
ask "$tenant_key" /api/v1/deployments >/dev/null

# The pepper is replaced while keys are in use, and they move to it.
ln -s "$binary" "$work/portico"
export PATH="$work:$PATH" PORTICO_URL="$url" PORTICO_KEY="$admin"
guide "## Replace the pepper of API keys"
standing() {
  portico keys peppers --json | python3 -c '
import json, sys
print(*(pepper.get("keys", 0) for pepper in json.load(sys.stdin)["peppers"] if not pepper.get("current")))'
}
deadline=$((SECONDS + START_SECONDS_MAX))
until [[ $(standing) == 0 ]]; do
  ((SECONDS < deadline)) || fail "keys that are in use do not move to the new pepper: $(portico keys peppers)"
  ask "$tenant_key" /api/v1/deployments >/dev/null
  sleep 0.2
done
# Another process, which knows the new one from its start.
stop INT
start
ask "$tenant_key" /api/v1/deployments >/dev/null
stop INT
echo "the backup of docs/guides/operate.md brings everything back, and sealing key and pepper can be replaced"
