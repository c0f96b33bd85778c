# shellcheck shell=bash
# What the tests need beside Rust: which version, and where it lives. Every script here sources this file first.
#
# All of it goes into one folder, PORTICO_TOOLS, which a second run reuses. Nothing is skipped silently: what cannot be
# installed ends the run through `fail`, with one sentence.
set -euo pipefail

export ROOT
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export PORTICO_TOOLS="${PORTICO_TOOLS:-$HOME/.cache/portico-tools}"
export PATH="$PORTICO_TOOLS/bin:$PORTICO_TOOLS/node/node_modules/.bin:$PORTICO_TOOLS/python/bin:$PATH"
export PATH="$ROOT/clients/ts/node_modules/.bin:$PATH"

# Node and Python packages are pinned in node/package-lock.json, clients/ts/package-lock.json and python/requirements.txt.
# The generators of protobuf-go and connect-go have the versions of clients/go/go.mod.
# crates/conformance-protos/build.rs fetches the same version of the conformance module.
export CONNECTCONFORMANCE=connectrpc.com/conformance/cmd/connectconformance@v1.0.7
export COMPOSE_SPEC=github.com/compose-spec/compose-go/v2/cmd@v2.16.2
export H2SPEC=github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
export GRPCURL=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
export PROTOC_GEN_GO=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
export PROTOC_GEN_CONNECT_GO=connectrpc.com/connect/cmd/protoc-gen-connect-go@v1.21.1
export PROTOC_GEN_GO_GRPC=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

export MINIO=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
export VERSITYGW=github.com/versity/versitygw/cmd/versitygw@v1.8.0

export CHROMIUM="${CHROMIUM:-/usr/bin/chromium}"

mkdir -p "$PORTICO_TOOLS/bin"

# Ends the run with one sentence.
fail() {
  echo "error: $*" >&2
  exit 1
}

# need COMMAND HOW-TO-GET-IT
need() {
  command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

# retry COMMAND... runs what asks the network, up to three times.
retry() {
  "$@" || { sleep 2 && "$@"; } || { sleep 10 && "$@"; }
}

# step NAME COMMAND... runs a command, saying what it is and how long it took.
step() {
  local name="$1" started=$SECONDS
  shift
  echo "==> $name"
  "$@" || fail "$name failed after $((SECONDS - started)) s"
  echo "==> $name: done in $((SECONDS - started)) s"
}
