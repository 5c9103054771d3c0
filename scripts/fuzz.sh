#!/usr/bin/env bash
# Runs fuzz targets in turn: `fuzz.sh [SECONDS [TARGET…]]`. Needs a nightly toolchain; installs cargo-fuzz into build/tools.
#
# Inputs that reach new code are kept in build/fuzz/corpus, inputs that fail in build/fuzz/failures. SANITIZER=address checks the C code
# of the decompressors too. It ends with the number of executions of each target, and exits with 1 when a target failed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
build=$PWD/build
export PATH=$build/tools/bin:$PATH CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root "$build/tools" cargo-fuzz
# The versions of the main workspace.
cp Cargo.lock fuzz/Cargo.lock
options=(--fuzz-dir fuzz --sanitizer "${SANITIZER:-none}")
cargo +nightly fuzz build "${options[@]}" 2>&1 | tail -1
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir fuzz)

failed=0
for target in "${targets[@]}"; do
  corpus=$build/fuzz/corpus/$target failures=$build/fuzz/failures/$target log=$build/fuzz/$target.log
  mkdir -p "$corpus" "$failures"
  dictionary=()
  [ ! -f "fuzz/dictionaries/$target.dict" ] || dictionary=("-dict=fuzz/dictionaries/$target.dict")
  cargo +nightly fuzz run "${options[@]}" "$target" "$corpus" "fuzz/seeds/$target" -- "-max_total_time=$seconds" -max_len=4096 -timeout=10 \
    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 "-artifact_prefix=$failures/" "${dictionary[@]}" >"$log" 2>&1 || {
    failed=1
    echo "$target failed: see $log"
  }
  executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  printf '%-16s %12s executions, %s inputs kept\n' "$target" "${executions:-?}" "$(find "$corpus" -type f | wc -l)"
  echo "$(date -u +%F) $target ${executions:-0}" >>"$build/fuzz/executions.txt"
done
exit $failed
