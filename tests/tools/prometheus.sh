#!/usr/bin/env bash
# Unpacks Debian's Prometheus into the folder of tools, without installing it as a service.
source "$(dirname "$0")/env.sh"

binary="$PORTICO_TOOLS/prometheus/usr/bin/prometheus"
[[ -x $binary ]] && exit 0
need apt-get "the dashboard's queries are run by Prometheus from Debian or Ubuntu"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; }) >/dev/null 2>&1 ||
  fail "apt-get could not download prometheus"
mkdir -p "$PORTICO_TOOLS/prometheus"
dpkg -x "$work"/prometheus_*.deb "$PORTICO_TOOLS/prometheus"
[[ -x $binary ]] || fail "the package of prometheus holds no $binary"
