#!/usr/bin/env bash
# Compiles the relay's modules for `dichroic attach` and `dichroic discover`, the same bytes every time: build-beams.sh [FOLDER]
# Without FOLDER into collector/receivers/attach/beams, from where the collector embeds them. Built with the oldest OTP that is supported:
# newer ones load such code, not the other way round.
set -euo pipefail
cd "$(dirname "$0")/.."
into=$(realpath -m "${1:-collector/receivers/attach/beams}")
source=$PWD/beam-relay/src
oldest=25

command -v erlc >/dev/null || { echo "erlc is missing: install Erlang/OTP $oldest" >&2; exit 1; }
read -r release compiler < <(erl -noshell -eval '
  _ = application:load(compiler), {ok, V} = application:get_key(compiler, vsn),
  io:format("~s ~s~n", [erlang:system_info(otp_release), V]), halt().')
[ "$release" = "$oldest" ] || echo "note: compiled with OTP $release; OTP $oldest would not load this" >&2

mkdir -p "$into"
rm -f "$into"/*.beam
modules=()
for file in "$source"/*.erl; do
  module=$(basename "$file" .erl)
  # The application's callback: a guest is no application.
  [ "$module" = dichroic_app ] || modules+=("$module")
done
(cd "$source" && erlc +deterministic +no_debug_info -o "$into" "${modules[@]/%/.erl}")

{
  echo "# What is embedded, and from what it was made: scripts/build-beams.sh writes this file."
  echo "otp $release"
  echo "compiler $compiler"
  (cd "$source" && for file in *.hrl *.erl; do echo "source $file $(md5sum "$file" | cut -d' ' -f1)"; done)
  # The MD5 that Module:module_info(md5) shows on the node.
  (cd "$into" && erl -noshell -eval '
    [begin {ok, {M, MD5}} = beam_lib:md5(F),
           io:format("beam ~s ~s~n", [M, [io_lib:format("~2.16.0b", [B]) || <<B>> <= MD5]]) end
     || F <- lists:sort(filelib:wildcard("*.beam"))], halt().')
} > "$into/MANIFEST"

{
  echo "//! The relay's modules: name, MD5 of the code as the node shows it, code. Written by scripts/build-beams.sh."
  echo
  echo "#[rustfmt::skip]"
  echo "pub const BEAMS: &[(&str, &str, &[u8])] = &["
  awk '$1 == "beam" { printf "    (\"%s\", \"%s\", include_bytes!(\"%s.beam\")),\n", $2, $3, $2 }' "$into/MANIFEST"
  echo "];"
} > "$into/mod.rs"
