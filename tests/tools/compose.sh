#!/usr/bin/env bash
# Builds the reference reader of compose files, as `compose-spec`.
source "$(dirname "$0")/env.sh"
need go "install Go 1.26 or newer (https://go.dev/doc/install)"

version="${COMPOSE_SPEC#*@}"
binary="$PORTICO_TOOLS/bin/compose-spec"
if [[ -x $binary ]] && go version -m "$binary" | grep -qP "^\tmod\t\S+\t\Q$version\E\t"; then exit 0; fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
GOBIN="$work" retry go install "$COMPOSE_SPEC" || fail "go install could not build $COMPOSE_SPEC"
mv "$work/cmd" "$binary"
