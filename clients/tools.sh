#!/usr/bin/env bash
# Off-the-shelf tools against a running gateway: grpcurl and buf curl learn the methods by reflection, schemathesis by
# /openapi.json. clients/run.sh starts it.
source "$(dirname "$0")/../tests/tools/env.sh"

EXAMPLES_MAX=20          # of schemathesis, for each operation and phase
SCHEMATHESIS_SECONDS=300 # it takes one minute on two cores; a call that never ends must not hold the run
url="${PORTICO_URL:?start this through clients/run.sh}"
address="${url#http://}"
bearer="Authorization: Bearer ${PORTICO_KEY:?}"
method=podium.v1.KeysService/ListKeys

# says NAME TEXT COMMAND... runs a command, whose output must hold TEXT.
says() {
  local name="$1" text="$2" output
  shift 2
  output="$("$@" 2>&1)" || fail "$name failed: $output"
  [[ $output == *"$text"* ]] || fail "$name did not answer with $text: $output"
  echo "$name: ok"
}

says "grpcurl list" podium.v1.KeysService grpcurl -plaintext "$address" list
says "grpcurl describe" CreateKeyRequest grpcurl -plaintext "$address" describe podium.v1.KeysService.CreateKey
says "grpcurl health" SERVING grpcurl -plaintext "$address" grpc.health.v1.Health/Check
says "grpcurl call" '"bootstrap"' grpcurl -plaintext -H "$bearer" "$address" "$method"
for protocol in connect grpc grpcweb; do
  says "buf curl $protocol" '"bootstrap"' \
    buf curl --http2-prior-knowledge --protocol "$protocol" --header "$bearer" "$url/$method"
done

# All operations that end, with all default checks; the stateful phase finds no links to follow. What the document cannot
# say stands in schemathesis.toml, with the reason.
timeout "$SCHEMATHESIS_SECONDS" schemathesis --config-file "$ROOT/schemathesis.toml" run "$url/openapi.json" \
  --header "$bearer" --phases examples,coverage,fuzzing --max-examples "$EXAMPLES_MAX" --seed 1 --no-color ||
  fail "schemathesis failed, as it says above"
