#!/usr/bin/env bash
# Installs missing Debian packages, with sudo when not root: `apt.sh PACKAGE…`. `apt.sh --missing PACKAGE…` only lists them.
set -euo pipefail
list=false
[ "${1:-}" != --missing ] || { list=true; shift; }
missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if $list; then
  echo "${missing[*]}"
  exit 0
fi
[ ${#missing[@]} -gt 0 ] || exit 0
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "apt: install these Debian packages, then try again: ${missing[*]}" >&2; exit 1; }
  sudo="sudo"
fi
install=($sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
  $sudo apt-get update -qq
  "${install[@]}" >/dev/null
fi
