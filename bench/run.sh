#!/usr/bin/env bash
# Runs all benches (`make bench`) or those named (`bench/run.sh NAME…`). Each prints its result, its budget, and the ratio to a baseline
# of the same run. Results are medians of several rounds; on a shared machine only the ratios are reliable.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${DICHROIC_PYTHON:-build/venv/bin/python}
all=(store rows parse ingest page fanout relay python frames idle large pages subscribers)
wanted=("${@:-${all[@]}}")
[ $# -gt 0 ] || wanted=("${all[@]}")

echo "machine: $(nproc) × $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(uname -sr)"
echo "commit:  $(git rev-parse --short HEAD)$(git diff --quiet || echo ' and uncommitted changes'), $(rustc --version)"

rust() { cargo bench --quiet -p "$1" --bench "$2"; }
for name in "${wanted[@]}"; do
  printf '\n== %s\n' "$name"
  case $name in
    store)  rust dichroic-pipeline store ;;
    rows)   rust dichroic-receiver-beam rows ;;
    parse)  rust dichroic-receiver-prometheus parse ;;
    ingest) rust dichroic-receiver-otlp ingest ;;
    page)   rust dichroic-exporter-prometheus page ;;
    fanout) rust dichroic-exporter-stream fanout ;;
    relay)  make --no-print-directory -C beam-relay bench ;;
    python) "$python" python-shim/bench/stream_bench.py ;;
    frames) cargo build --release --quiet -p dichroic && "$python" bench/frames.py ;;
    idle)   cargo build --release --quiet -p dichroic && "$python" bench/idle.py ;;
    large)  cargo build --release --quiet -p dichroic && "$python" bench/large.py ;;
    pages)  cargo build --release --quiet -p dichroic && "$python" bench/pages.py ;;
    subscribers) cargo build --release --quiet -p dichroic && "$python" bench/subscribers.py ;;
    *) echo "unknown bench \"$name\": expected one of ${all[*]}" >&2; exit 2 ;;
  esac
done
