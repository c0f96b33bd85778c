#!/usr/bin/env bash
# Starts Portico on its production parts, all on this machine: PostgreSQL, Redis, MinIO, two gateways and three
# coordinators. Uploads an agent, starts instances of it and shows on which hosts they run; then serves until Ctrl-C.
#
#   deploy/cluster.sh           in the foreground
#   deploy/cluster.sh --once    ends when it has shown that
#
# PORTICO_BIN is the binary; the debug build when it is not set. Everything lies in a temporary folder and goes with it.
source "$(dirname "$0")/../tests/tools/env.sh"
cd "$ROOT"

SECONDS_MAX=60
# So many instances are started, and more until every coordinator has one: they are placed by load, too.
INSTANCES=6
INSTANCES_MAX=30
COORDINATORS=3
binary="$(realpath "${PORTICO_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/portico}")"
[[ -x $binary ]] || fail "$binary is not there: run cargo build"
need curl "install curl"
need python3 "install Python 3"
tests/tools/apt.sh postgresql redis-server
tests/tools/go.sh "$MINIO"
postgres="$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)"

work="$(mktemp -d)"
chmod 755 "$work"
children=()
finish() {
  trap - EXIT INT TERM
  echo "==> stopping"
  # Gateways first, then the hosts, then what they stand on: the reverse of how they began.
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    kill -INT "${children[i]}" 2>/dev/null && wait "${children[i]}" 2>/dev/null
  done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

# begin NAME COMMAND... starts a program in the background, its words in a log of its own.
begin() {
  local name="$1"
  shift
  # A group of its own, so that Ctrl-C reaches this script alone, which stops everything in order.
  setsid "$@" >"$work/$name.log" 2>&1 </dev/null &
  children+=($!)
}

# until_it NAME COMMAND... waits until the command succeeds.
until_it() {
  local name="$1" deadline=$((SECONDS + SECONDS_MAX))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { tail -n 20 "$work/$name.log" >&2; fail "$name did not start within $SECONDS_MAX s"; }
    sleep 0.1
  done
}

free_ports() {
  python3 -c '
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
[s.bind(("127.0.0.1", 0)) for s in held]
print(*(s.getsockname()[1] for s in held))' "$1"
}
read -r -a ports <<<"$(free_ports $((3 + 2 + COORDINATORS)))"
records="${ports[0]}" registry="${ports[1]}" store="${ports[2]}"

echo "==> PostgreSQL, Redis and MinIO"
as_postgres=()
mkdir "$work/postgres"
if ((EUID == 0)); then # which PostgreSQL refuses
  chown postgres "$work/postgres"
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
"${as_postgres[@]}" "$postgres/initdb" -D "$work/postgres/data" -U portico -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
begin postgres "${as_postgres[@]}" "$postgres/postgres" -D "$work/postgres/data" -p "$records" -k "$work/postgres" -h 127.0.0.1
begin redis redis-server --port "$registry" --bind 127.0.0.1 --save '' --maxmemory-policy noeviction
mkdir -p "$work/minio/portico" # a bucket is a folder
export MINIO_ROOT_USER=portico MINIO_ROOT_PASSWORD=portico-cluster MINIO_BROWSER=off
begin minio minio server --quiet --address "127.0.0.1:$store" "$work/minio"
until_it postgres "$postgres/pg_isready" -h 127.0.0.1 -p "$records" -U portico
until_it redis redis-cli -p "$registry" ping
until_it minio curl --silent --fail "http://127.0.0.1:$store/minio/health/ready"

secret() { python3 -c "import secrets; print(secrets.token_$1(32))"; }
admin="pod_admin_$(secret hex)"
shared=(
  PATH="$PATH" HOME="$HOME" PORTICO_LOG_FORMAT=json PORTICO_LIMITS=off PORTICO_FLEET_TOKEN="$(secret hex)"
  PORTICO_REGISTRY="redis://127.0.0.1:$registry" PORTICO_BUS="redis://127.0.0.1:$registry"
  PORTICO_BLOBS="s3://portico?endpoint=http://127.0.0.1:$store&region=us-east-1"
  AWS_ACCESS_KEY_ID="$MINIO_ROOT_USER" AWS_SECRET_ACCESS_KEY="$MINIO_ROOT_PASSWORD"
)

echo "==> $COORDINATORS coordinators and two gateways"
for ((i = 1; i <= COORDINATORS; i++)); do
  begin "coordinator-$i" env -i "${shared[@]}" PORTICO_LISTEN="127.0.0.1:${ports[4 + i]}" PORTICO_FLEET_ID="coordinator-$i" \
    PORTICO_DATA="$work/coordinator-$i" "$binary" coordinator
done
sealing="$(secret hex)"
for i in 1 2; do
  begin "gateway-$i" env -i "${shared[@]}" PORTICO_LISTEN="127.0.0.1:${ports[2 + i]}" PORTICO_DATA="$work/gateway-$i" \
    PORTICO_RECORDS="postgres://portico@127.0.0.1:$records/postgres?sslmode=disable" PORTICO_FLEET="coordinator:" \
    PORTICO_ADMIN_KEY="$admin" PORTICO_SECRETS_KEY="$sealing" "$binary" serve
done
gateways=("http://127.0.0.1:${ports[3]}" "http://127.0.0.1:${ports[4]}")
for i in 1 2; do until_it "gateway-$i" curl --silent --fail "${gateways[i - 1]}/health/ready"; done

# call GATEWAY ARGUMENTS... calls one of the gateways as the administrator.
call() {
  local gateway="${gateways[$1]}" path="$2"
  shift 2
  curl --silent --show-error --fail-with-body --header "Authorization: Bearer $admin" "$gateway$path" "$@"
}
# Whether this gateway knows every coordinator.
members() {
  call "$1" /health | python3 -c '
import json, sys
health = json.load(sys.stdin)
sys.exit(health["status"] != "healthy" or health["checks"]["coordinators"]["healthy"] != int(sys.argv[1]))' "$COORDINATORS"
}
announced() { (($(redis-cli -p "$registry" scard podium:coordinators) == COORDINATORS)); }
until_it coordinator-1 announced
for i in 1 2; do until_it "gateway-$i" members $((i - 1)); done

echo "==> an agent, uploaded through one gateway and started through both"
tar -czf "$work/echo.tar.gz" -C examples/agents/echo .
call 0 /api/v1/deployments --form agent_type=echo --form version=1.0.0 --form file=@"$work/echo.tar.gz" >/dev/null
hosts_used() {
  call 1 "/api/v1/instances?limit=100" |
    python3 -c 'import json, sys; print(len({it["coordinator_id"] for it in json.load(sys.stdin)["instances"]}))'
}
for ((i = 1; i <= INSTANCES || (i <= INSTANCES_MAX && $(hosts_used) < COORDINATORS); i++)); do
  call $((i % 2)) /api/v1/instances --json "{\"agent_type\": \"echo\", \"agent_id\": \"shown-$i\"}" >"$work/answer" ||
    { cat "$work/answer" >&2; fail "shown-$i did not start"; }
done
call 1 "/api/v1/instances?limit=100" | python3 -c '
import collections, json, sys
instances = json.load(sys.stdin)["instances"]
hosts = collections.Counter(it["coordinator_id"] for it in instances)
for it in sorted(instances, key=lambda it: it["instance_id"]):
    print("    {instance_id} runs on {coordinator_id}, {status}".format(**it))
if len(hosts) < int(sys.argv[1]):
    sys.exit(f"the instances run on {sorted(hosts)} alone")' "$COORDINATORS"
[[ ${1:-} == --once ]] && exit 0

cat <<TEXT

Two gateways serve one platform:

  ${gateways[0]}    ${gateways[1]}

  export PORTICO_URL=${gateways[0]}
  export PORTICO_KEY=$admin

Logs are in $work. Ctrl-C stops everything.
TEXT
wait -n "${children[@]}"
fail "a program ended by itself; its log is the last that was written"
