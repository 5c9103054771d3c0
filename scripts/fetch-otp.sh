#!/usr/bin/env bash
# Unpacks another Erlang/OTP with its C libraries and prints the folder of its programs: fetch-otp.sh SUITE, where SUITE is a Debian
# release (trixie has OTP 27). Installs nothing and needs no root: the packages are verified by apt, unpacked below build/otp, and every
# program is started by the unpacked dynamic linker.
set -euo pipefail
suite=${1:?usage: fetch-otp.sh SUITE, for example trixie}
build=$(cd "$(dirname "$0")/.." && pwd)/build
into=$build/otp/$suite
if [ -x "$into/programs/erl" ]; then
  echo "$into/programs"
  exit 0
fi

command -v apt-get >/dev/null || { echo "fetch-otp: apt-get not found: this script needs Debian" >&2; exit 1; }
mkdir -p "$build/otp"
work=$(mktemp -d "$build/otp/$suite.XXXXXX")
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
[ -n "$mirror" ] || { echo "fetch-otp: no Debian mirror configured in apt; run 'apt-get update' and try again" >&2; exit 1; }

mkdir -p "$work"/{lists/partial,cache/archives/partial,sources,debs,root}
: > "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists"
     -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update >&2 || { echo "fetch-otp: cannot read the package list of $suite from $mirror" >&2; exit 1; }
download() { (cd "$work/debs" && "${apt[@]}" download "$@" >&2); }
download erlang-base erlang-crypto erlang-ssl erlang-public-key erlang-asn1 erlang-runtime-tools \
  libc6 libstdc++6 libgcc-s1 libtinfo6 zlib1g libsystemd0 libcap2 libzstd1 libsctp1 \
  || { echo "fetch-otp: cannot download the packages of $suite" >&2; exit 1; }
# Newer releases name the package after its 64-bit time type.
download libssl3t64 2>/dev/null || download libssl3 || { echo "fetch-otp: $suite has no libssl3" >&2; exit 1; }
for deb in "$work"/debs/*.deb; do
  dpkg -x "$deb" "$work/root"
done

# The unpacked files contain their final path; they are moved there when complete.
final=$into/root
erlang=usr/lib/erlang
# Older releases have a separate folder lib.
mkdir -p "$work/root/lib"
linker=$(cd "$work/root" && find lib usr/lib -name 'ld-linux*.so.*' | head -1)
libraries=$(cd "$work/root" && find lib usr/lib -maxdepth 1 -name '*-linux-gnu*' | sed "s#^#$final/#" | paste -sd:)
for program in "$work/root/$erlang"/erts-*/bin/*; do
  [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
  mv "$program" "$program.elf"
  printf '#!/bin/sh\nexec %s --library-path %s "%s" "$@"\n' "$final/$linker" "$libraries" "$final${program#"$work/root"}.elf" > "$program"
  chmod +x "$program"
done
erts=$(cd "$work/root/$erlang" && ls -d erts-*)
environment="export EMU=beam ROOTDIR=$final/$erlang BINDIR=$final/$erlang/$erts/bin ERLC_EMULATOR=$into/programs/erl ESCRIPT_EMULATOR=$into/programs/erl"
mkdir "$work/programs"
for program in erl:erlexec erlc:erlc escript:escript epmd:epmd; do
  name=${program%%:*}
  printf '#!/bin/sh\n%s PROGNAME=%s\nexec "$BINDIR/%s" "$@"\n' "$environment" "$name" "${program##*:}" > "$work/programs/$name"
  chmod +x "$work/programs/$name"
done
rm -rf "$into"
mkdir -p "$into"
mv "$work/root" "$work/programs" "$into/"
"$into/programs/erl" -noshell -eval 'halt().' || { rm -rf "$into"; echo "fetch-otp: the OTP of $suite does not start on this machine" >&2; exit 1; }
echo "$into/programs"
