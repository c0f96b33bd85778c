#!/usr/bin/env bash
# Installs Debian's packages that the tests need: Chromium, for the TypeScript client in a real browser; openssl, which makes
# certificates; PostgreSQL and Redis, of which each test starts a server of its own: those that the packages would start are
# not wanted.
#
#   apt.sh [PACKAGE...]     those alone, if some are named
source "$(dirname "$0")/env.sh"

only=" $* "
is_there() {
  case $1 in
    chromium) [[ -x $CHROMIUM ]] ;;
    openssl | redis-server) command -v "$1" >/dev/null ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
  esac
}
packages=()
for package in chromium openssl postgresql redis-server; do
  [[ $only == "  " || $only == *" $package "* ]] || continue
  is_there "$package" || packages+=("$package")
done
((${#packages[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || fail "not root and no sudo here; as root, run: apt-get install ${packages[*]}"
  as_root=(sudo)
fi
need apt-get "the tests install ${packages[*]} from Debian or Ubuntu; elsewhere install them yourself, set CHROMIUM to the path of Chromium and put PostgreSQL into /usr/lib/postgresql/VERSION/bin"

"${as_root[@]}" apt-get update -qq || fail "apt-get update failed, so ${packages[*]} cannot be installed"
if [[ " ${packages[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
  fail "apt-get could not install ${packages[*]}"
if [[ " ${packages[*]} " == *" redis-server "* ]] && command -v systemctl >/dev/null; then
  "${as_root[@]}" systemctl disable --quiet --now redis-server 2>/dev/null || echo "    redis-server: no service to stop here"
fi
