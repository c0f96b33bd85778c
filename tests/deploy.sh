#!/usr/bin/env bash
# Holds the files of deploy/ to what reads them: the compose file to the reference implementation of its specification,
# the manifests to the schemas of Kubernetes, the units to systemd, the alerts to promtool, and every query of the
# dashboard and the alerts to a Prometheus that scrapes a gateway with calls behind it.
source "$(dirname "$0")/tools/env.sh"
cd "$ROOT"

SECONDS_MAX=60
binary="${PORTICO_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/portico}"
[[ -x $binary ]] || fail "$binary is not there: run cargo build"
prometheus="$PORTICO_TOOLS/prometheus/usr/bin"

work="$(mktemp -d)"
children=()
finish() {
  ((${#children[@]})) && kill "${children[@]}" 2>/dev/null && wait "${children[@]}" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT

compose-spec -no-interpolation deploy/compose.yaml >"$work/compose" 2>&1 ||
  { cat "$work/compose" >&2 && fail "deploy/compose.yaml is no compose file"; }

kubernetes-validate --quiet --strict $(ls deploy/kubernetes/*.yaml | grep -v kustomization) ||
  fail "the manifests of deploy/kubernetes do not fit their schemas"

if command -v systemd-analyze >/dev/null; then
  for unit in deploy/systemd/*.service; do
    # Where the binary lies on this machine is not the unit's business.
    sed "s#=/usr/local/bin/portico#=$(realpath "$binary")#" "$unit" >"$work/$(basename "$unit")"
    systemd-analyze verify "$work/$(basename "$unit")" || fail "$unit is no unit"
  done
fi

"$prometheus/promtool" check rules deploy/prometheus/alerts.yaml >"$work/rules" || { cat "$work/rules" >&2 && fail "the alerts are no rules"; }
mkdir "$work/checked" && cp deploy/prometheus/*.yaml "$work/checked"
"$prometheus/promtool" check config "$work/checked/prometheus.yaml" >/dev/null || fail "prometheus.yaml is no configuration"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port="$(free_port)" scraper="$(free_port)" key="pod_admin_deploy_0123456789abcdefghijk"
env -i PATH="$PATH" HOME="$HOME" PORTICO_LISTEN="127.0.0.1:$port" PORTICO_DATA="$work/data" PORTICO_ADMIN_KEY="$key" \
  "$binary" serve >"$work/gateway.log" 2>&1 &
children+=($!)
cat >"$work/prometheus.yaml" <<YAML
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: portico
    static_configs: [{ targets: ["127.0.0.1:$port"] }]
YAML
"$prometheus/prometheus" --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/tsdb" \
  --web.listen-address="127.0.0.1:$scraper" >"$work/prometheus.log" 2>&1 &
children+=($!)

python tests/deploy/queries.py --gateway "http://127.0.0.1:$port" --key "$key" --prometheus "http://127.0.0.1:$scraper" \
  --seconds-max "$SECONDS_MAX" || { tail -n 5 "$work/prometheus.log" "$work/gateway.log" >&2; fail "the dashboard shows nothing"; }
echo "the files of deploy/ hold"
