#!/usr/bin/env bash
# Compiles the relay's modules for `dichroic attach` and `dichroic discover`, the same bytes every time: build-beams.sh [FOLDER]
# Without FOLDER into collector/beam-attach/beams, from where the collector embeds them. A node loads code of its own OTP and of
# the two before it, so there are two sets: the one of OTP 25 is for 25 and 26, the one of OTP 27 for 27, 28 and 29.
set -euo pipefail
cd "$(dirname "$0")/.."
into=$(realpath -m "${1:-collector/beam-attach/beams}")
source=$PWD/beam-relay/src
# Releases of Debian that have these OTPs.
declare -A suites=([25]=bookworm [27]=trixie)

modules=()
for file in "$source"/*.erl; do
  module=$(basename "$file" .erl)
  # The application's callback: a guest is no application.
  [ "$module" = dichroic_app ] || modules+=("$module")
done

# The programs of an OTP: those that are installed, or those of a Debian that has them.
programs() {
  local installed
  installed=$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().' 2>/dev/null || true)
  if [ "$installed" = "$1" ]; then dirname "$(command -v erl)"; else ./scripts/fetch-otp.sh "${suites[$1]}"; fi
}

build() {
  local otp=$1 bin=$2 out=$into/otp$1
  mkdir -p "$out"
  rm -f "$out"/*.beam
  (cd "$source" && "$bin/erlc" +deterministic +no_debug_info -o "$out" "${modules[@]/%/.erl}")
  {
    echo "# What is embedded, and from what it was made: scripts/build-beams.sh writes this file."
    echo "otp $otp"
    "$bin/erl" -noshell -eval '
      _ = application:load(compiler), {ok, V} = application:get_key(compiler, vsn), io:format("compiler ~s~n", [V]), halt().'
    (cd "$source" && for file in *.hrl *.erl; do echo "source $file $(md5sum "$file" | cut -d' ' -f1)"; done)
    # The MD5 that Module:module_info(md5) shows on the node.
    (cd "$out" && "$bin/erl" -noshell -eval '
      [begin {ok, {M, MD5}} = beam_lib:md5(F),
             io:format("beam ~s ~s~n", [M, [io_lib:format("~2.16.0b", [B]) || <<B>> <= MD5]]) end
       || F <- lists:sort(filelib:wildcard("*.beam"))], halt().')
  } > "$out/MANIFEST"
}

for otp in 25 27; do
  build "$otp" "$(programs "$otp")"
done

{
  echo "//! The relay's modules by the OTP that compiled them: name, MD5 of the code as the node shows it, code. Written by"
  echo "//! scripts/build-beams.sh."
  echo
  echo "use super::Compiled;"
  echo
  echo "#[rustfmt::skip]"
  echo "pub const SETS: &[(u32, &[Compiled])] = &["
  for otp in 25 27; do
    echo "    ($otp, &["
    awk -v set="otp$otp" '$1 == "beam" { printf "        (\"%s\", \"%s\", include_bytes!(\"%s/%s.beam\")),\n", $2, $3, set, $2 }' "$into/otp$otp/MANIFEST"
    echo "    ]),"
  done
  echo "];"
} > "$into/mod.rs"
