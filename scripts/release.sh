#!/usr/bin/env bash
# Collects what a release ships in build/release: the static binary with its manual pages and completions as a tar archive, the wheel, the
# Hex package, and SHA256SUMS.
# `release.sh --check TAG` only checks that the tag, every manifest and the changelog name one version. `make release` builds first.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

check() {
  local failed=0
  same() { [ "$2" = "$version" ] || { echo "release: the version in $1 is ${2:-missing}, in Cargo.toml $version" >&2; failed=1; }; }
  same "the tag" "${1#v}"
  same beam-relay/src/dichroic.app.src "$(sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' beam-relay/src/dichroic.app.src)"
  same python-shim/src/dichroic/_version.py "$(sed -n 's/^VERSION = "\(.*\)"/\1/p' python-shim/src/dichroic/_version.py)"
  grep -q "^## $version (20[0-9-]*)" CHANGELOG.md || { echo "release: CHANGELOG.md has no heading '## $version (DATE)'" >&2; failed=1; }
  return $failed
}

if [ "${1:-}" = --check ]; then
  [ -n "${2:-}" ] || { echo "usage: release.sh --check v1.2.3" >&2; exit 2; }
  check "$2" && echo "release: $version is consistent"
  exit
fi

target=x86_64-unknown-linux-musl
out=build/release
rm -rf "$out" && mkdir -p "$out"
name=dichroic-$version-$target
mkdir -p "build/$name" && cp "target/$target/release/dichroic" LICENSE README.md examples/sidecar/dichroic.yaml examples/sidecar/dichroic.service "build/$name/"
"build/$name/dichroic" man "build/$name/man"
mkdir -p "build/$name/completions"
for shell in bash zsh fish; do "build/$name/dichroic" completions $shell > "build/$name/completions/dichroic.$shell"; done
# Times, owners and order are fixed, so the same files give the same archive.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C build -c "$name" | gzip -n > "$out/$name.tar.gz"
rm -rf "build/$name"
cp build/wheels/dichroic-"$version"-*.whl "$out/"
make --no-print-directory -C beam-relay hex >/dev/null
cp beam-relay/_build/dichroic.tar "$out/dichroic-$version-hex.tar"
(cd "$out" && sha256sum -- * > SHA256SUMS && cat SHA256SUMS)
