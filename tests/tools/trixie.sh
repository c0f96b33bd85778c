#!/usr/bin/env bash
# Unpacks Debian trixie packages into a private folder, so that a program built for its C library runs on an older
# Debian. Nothing is installed: apt is given its own sources, lists and cache, all inside the folder.
#
#   tests/tools/trixie.sh FOLDER PACKAGE...     prints the folder of the libraries, FOLDER/root/usr/lib/x86_64-linux-gnu
#
# Start a program with  LIB/ld-linux-x86-64.so.2 --library-path LIB PROGRAM. A second run with the same packages is free.
set -euo pipefail

folder=${1:?"usage: trixie.sh FOLDER PACKAGE..."}
shift
packages=(libc6 libstdc++6 libgcc-s1 "$@")
lib=$folder/root/usr/lib/x86_64-linux-gnu
done_mark=$folder/unpacked.list

wanted=$(printf '%s\n' "${packages[@]}" | sort -u)
if [[ -f $done_mark && -z $(comm -23 <(echo "$wanted") "$done_mark") ]]; then
    echo "$lib"
    exit 0
fi

for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "trixie.sh: $tool is needed to fetch Debian packages" >&2; exit 1; }
done

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mkdir -p "$folder"/{lists/partial,cache/archives/partial,sources,packages}
find "$folder/sources" -type f -delete
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    # Debian's own archive carries the release's bare name; other sources may not know trixie and are left out.
    if [[ -f $file ]] && grep -Eq "(^|[[:space:]])$codename([[:space:]]|\$)" "$file"; then
        sed "s/$codename/trixie/g" "$file" >"$folder/sources/$(basename "$file")"
    fi
done
if [[ -z $(ls "$folder/sources") ]]; then
    echo "trixie.sh: this machine has no apt source of its own Debian release to derive trixie's from" >&2
    exit 1
fi
private=(
    -o Dir::Etc::sourcelist=/dev/null
    -o Dir::Etc::SourceParts="$folder/sources"
    -o Dir::State::Lists="$folder/lists"
    -o Dir::Cache="$folder/cache"
    -o APT::Sandbox::User=root
)
apt-get "${private[@]}" -qq update >&2
(cd "$folder/packages" && apt-get "${private[@]}" -qq download $wanted >&2)
for package in "$folder"/packages/*.deb; do
    dpkg -x "$package" "$folder/root"
done
find "$folder/packages" -name '*.deb' -delete
echo "$wanted" | sort -u - <(cat "$done_mark" 2>/dev/null || true) >"$done_mark.new"
mv "$done_mark.new" "$done_mark"
echo "$lib"
