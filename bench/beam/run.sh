#!/usr/bin/env bash
# The relay compared with other reporters: `bench/beam/run.sh [cost|memory|exact|attach]…`. Reporters take part if their compiled code is given:
# PEEP_EBIN, TMP_CORE_EBIN, TELEMETRY_METRICS_EBIN, NIMBLE_OPTIONS_EBIN, ELIXIR_EBIN, and TELEMETRY_EBIN for the real telemetry.
# Without them the relay is compared with a no-op handler only. RELAY is another folder than beam-relay. ROUNDS, EVENTS and PERSIST=1
# (telemetry:persist/0) configure the cost bench.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/bench-beam
mkdir -p "$out"
make --no-print-directory -s -C "${RELAY:-beam-relay}" compile >&2
erlc -o "$out" bench/beam/*.erl beam-relay/test/support/telemetry*.erl
cp beam-relay/test/support/telemetry.app "$out"

paths=(-pa "$out")
for ebin in "${ELIXIR_EBIN-}" "${ELIXIR_EBIN:+${ELIXIR_EBIN%/*/*}/logger/ebin}" "${PEEP_EBIN-}" "${TMP_CORE_EBIN-}" \
            "${TELEMETRY_METRICS_EBIN-}" "${NIMBLE_OPTIONS_EBIN-}" "${TELEMETRY_EBIN-}"; do
  [ -z "$ebin" ] || paths+=(-pa "$ebin")
done
paths+=(-pa "${RELAY:-beam-relay}"/_build/default/lib/dichroic/ebin)

echo "machine: $(nproc) × $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
echo "commit:  $(git rev-parse --short HEAD)"
wanted=("$@")
[ $# -gt 0 ] || wanted=(cost memory exact attach)
for name in "${wanted[@]}"; do
  printf '\n== %s\n' "$name"
  ERL_CRASH_DUMP_SECONDS=0 erl +sbwt none +sbwtdcpu none +sbwtdio none -noshell "${paths[@]}" -s "${name}_bench" main
done
