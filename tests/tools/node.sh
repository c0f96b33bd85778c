#!/usr/bin/env bash
# Installs the npm packages: buf into the cache, and what the TypeScript client is built and tested with into clients/ts.
source "$(dirname "$0")/env.sh"
need node "install Node.js 20 or newer"
need npm "it comes with Node.js 20 or newer"

# install FOLDER installs what FOLDER/package-lock.json pins, unless it already did.
install() {
  cmp -s "$1/package-lock.json" "$1/node_modules/.installed" && return
  echo "    $1"
  npm ci --prefix "$1" --no-audit --no-fund --loglevel=error || fail "npm ci could not install the packages of $1"
  cp "$1/package-lock.json" "$1/node_modules/.installed"
}

mkdir -p "$PORTICO_TOOLS/node"
cp "$ROOT"/tests/tools/node/package*.json "$PORTICO_TOOLS/node/"
install "$PORTICO_TOOLS/node"
install "$ROOT/clients/ts"
