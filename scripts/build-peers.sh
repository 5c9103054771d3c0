#!/usr/bin/env bash
# Builds the programs of `make test-peers` into build/peers, once for each set of pins: Prometheus 3, an OpenTelemetry Collector, and
# programs that use the SDKs of Go and JavaScript. Versions are pinned here and in tests/peers/programs. The first time takes about half an
# hour of one core and 3 GB of disk. Needs Go 1.26 and Node.js 20 or newer on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/peers
programs=$PWD/tests/peers/programs
prometheus=v0.316.0 # the module version of Prometheus 3.16.0
stamp="$prometheus $(cat "$programs"/*/go.mod "$programs"/*/go.sum "$programs"/*/*.go "$programs"/nodesdk/* | sha256sum | cut -c1-16)"
if [ "$(cat "$root/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
command -v go >/dev/null || { echo "build-peers: Go 1.26 or newer is missing" >&2; exit 1; }
command -v npm >/dev/null || { echo "build-peers: Node.js 20 or newer with npm is missing" >&2; exit 1; }

mkdir -p "$root/bin" "$root/tmp"
export GOPATH=$root/go GOMODCACHE=$root/go/pkg/mod GOCACHE=$root/cache GOBIN=$root/bin TMPDIR=$root/tmp CGO_ENABLED=0 GOFLAGS=-modcacherw
build() {
  echo "build-peers: $1"
  (cd "$programs/$1" && go build -mod=readonly -trimpath -ldflags='-s -w' -o "$root/bin/$1" .)
}
build gosdk
build otelcol
# Without service discovery, which no test uses: half the time to build.
for program in prometheus promtool; do
  echo "build-peers: $program $prometheus"
  go install -trimpath -ldflags='-s -w -X github.com/prometheus/common/version.Version=3.16.0' -tags remove_all_sd "github.com/prometheus/prometheus/cmd/$program@$prometheus"
done
echo "build-peers: nodesdk"
rm -rf "$root/nodesdk" && cp -r "$programs/nodesdk" "$root/nodesdk"
(cd "$root/nodesdk" && npm ci --silent --no-audit --no-fund)
echo "$stamp" > "$root/stamp"
echo "build-peers: done"
