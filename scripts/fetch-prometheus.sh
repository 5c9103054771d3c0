#!/bin/sh
# Unpacks Debian's prometheus package (prometheus and promtool) into build/prometheus, once, and prints the folder that holds both
# programs. The package is not installed: installing it would start a service.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
into="$root/build/prometheus"
bin="$into/usr/bin"

if ! [ -x "$bin/promtool" ] || ! [ -x "$bin/prometheus" ]; then
    command -v dpkg >/dev/null || {
        echo "fetch-prometheus: needs dpkg (Debian); put prometheus and promtool into $bin instead" >&2
        exit 1
    }
    mkdir -p "$root/build"
    work=$(mktemp -d "$root/build/prometheus.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get -o APT::Sandbox::User=root download -q prometheus >&2) || {
        echo "fetch-prometheus: 'apt-get download prometheus' failed; run 'apt-get update' and try again" >&2
        exit 1
    }
    dpkg -x "$work"/prometheus_*.deb "$work/unpacked"
    rm -rf "$into"
    mv "$work/unpacked" "$into" || [ -x "$bin/promtool" ]
fi
echo "$bin"
