#!/usr/bin/env bash
# Installs the Go programs: the Connect conformance runner, h2spec, grpcurl, the three generators of the Go client, and two
# makers of S3 stores.
#
#   go.sh [PACKAGE@VERSION...]     those alone, if some are named
source "$(dirname "$0")/env.sh"
need go "install Go 1.26 or newer (https://go.dev/doc/install)"

# Builds PACKAGE@VERSION unless exactly that version is already there.
install() {
  local package="${1%@*}" version="${1#*@}" name="${1##*/}"
  local binary="$PORTICO_TOOLS/bin/${name%@*}"
  local module="${package%/cmd/*}"
  [[ $package == "$PROTOC_GEN_GO_GRPC_MODULE" ]] && module="$package"
  if [[ -x $binary ]] && go version -m "$binary" | grep -qP "^\tmod\t\Q$module\E\t\Q$version\E\t"; then return; fi
  echo "    $package@$version"
  GOBIN="$PORTICO_TOOLS/bin" retry go install "$package@$version" || fail "go install could not build $package@$version"
}

PROTOC_GEN_GO_GRPC_MODULE="${PROTOC_GEN_GO_GRPC%@*}" # a module of its own, below .../cmd

programs=("$CONNECTCONFORMANCE" "$GRPCURL" "$H2SPEC" "$PROTOC_GEN_GO" "$PROTOC_GEN_CONNECT_GO" "$PROTOC_GEN_GO_GRPC" \
  "$MINIO" "$VERSITYGW")
(($#)) && programs=("$@")
for program in "${programs[@]}"; do
  install "$program"
done
