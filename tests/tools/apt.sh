#!/usr/bin/env bash
# Installs Debian's packages that the tests need: Chromium, for the TypeScript
# client in a real browser, and openssl, which makes certificates.
source "$(dirname "$0")/env.sh"

packages=()
[[ -x $CHROMIUM ]] || packages+=(chromium)
command -v openssl >/dev/null || packages+=(openssl)
((${#packages[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || fail "not root and no sudo here; as root, run: apt-get install ${packages[*]}"
  as_root=(sudo)
fi
need apt-get "the tests install ${packages[*]} from Debian or Ubuntu; elsewhere install it yourself and set CHROMIUM to its path"

"${as_root[@]}" apt-get update -qq || fail "apt-get update failed, so ${packages[*]} cannot be installed"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
  fail "apt-get could not install ${packages[*]}"
