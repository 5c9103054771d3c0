#!/usr/bin/env bash
# Installs what a task needs, each thing once: `setup.sh demo|test|docs|peers|libraries`. Prints what it will install before it installs anything.
# Everything but Debian packages goes to build/.
set -euo pipefail
cd "$(dirname "$0")/.."
task=${1:?usage: setup.sh demo|test|docs|peers|libraries}
build=$PWD/build
venv=$build/venv
mkdir -p "$build"

command -v cargo >/dev/null || { echo "setup: Rust is missing; install it with rustup, then try again" >&2; exit 1; }
command -v python3 >/dev/null || { echo "setup: Python 3.10 or newer is missing; apt-get install python3 python3-venv" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "setup: $(python3 --version) is too old; 3.10 or newer is needed" >&2; exit 1; }

case $task in
  demo)  debian=(gcc libc6-dev erlang-base) ;;
  test)  debian=(gcc g++ libc6-dev make erlang-base erlang-dev erlang-eunit erlang-tools erlang-common-test erlang-crypto erlang-ssl openssl rebar3 elixir curl libfaketime chromium-headless-shell) ;;
  docs)  debian=() ;;
  peers) debian=(gcc g++ libc6-dev make erlang-base erlang-crypto) ;;
  libraries) debian=(gcc libc6-dev make git erlang-base erlang-dev erlang-crypto erlang-ssl erlang-inets erlang-parsetools erlang-tools postgresql redis-server) ;;
  *) echo "usage: setup.sh demo|test|docs|peers|libraries" >&2; exit 2 ;;
esac
requirements=scripts/requirements-$task.txt
stamp=$build/.requirements-$task

# ---- missing parts -----------------------------------------------------------------------------------------------------------
plan=()
missing=$(./scripts/apt.sh --missing "${debian[@]}")
[ -z "$missing" ] || plan+=("Debian packages, with apt-get (and sudo): $missing")
[ -x "$venv/bin/python" ] || plan+=("a Python virtual environment: build/venv")
cmp -s "$requirements" "$stamp" || plan+=("Python packages in build/venv: $(grep -v '^-r' "$requirements" | paste -sd' ')")
if [ "$task" = test ]; then
  [ -x "$build/prometheus/usr/bin/promtool" ] || plan+=("Prometheus from its Debian package, unpacked in build/prometheus (not installed)")
  [ -x "$build/otp/trixie/programs/erl" ] || plan+=("OTP 27 from Debian 13's packages, unpacked in build/otp (not installed)")
fi
[ ${#plan[@]} -gt 0 ] || exit 0
echo "setup: installing what '$task' needs and this machine lacks:"
printf '  - %s\n' "${plan[@]}"

# ---- install it ----------------------------------------------------------------------------------------------------------------
[ -z "$missing" ] || ./scripts/apt.sh "${debian[@]}"
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv" >/dev/null 2>&1 || { rm -rf "$venv"; ./scripts/apt.sh python3-venv; python3 -m venv "$venv"; }
fi
if ! cmp -s "$requirements" "$stamp"; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi
if [ "$task" = test ]; then
  ./scripts/fetch-prometheus.sh >/dev/null
  # `dichroic attach` loads other code into a newer OTP.
  ./scripts/fetch-otp.sh trixie >/dev/null
fi
echo "setup: done"
