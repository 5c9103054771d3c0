#!/usr/bin/env bash
# Installs what a task needs and nothing twice: `setup.sh demo` or `setup.sh test`. Progress goes to standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?usage: setup.sh demo|test}
build=$PWD/build
venv=$build/venv
mkdir -p "$build"

command -v cargo >/dev/null || { echo "Rust is missing: install rustup, then try again" >&2; exit 1; }
command -v python3 >/dev/null || { echo "Python 3.10 or newer is missing: apt install python3 python3-venv" >&2; exit 1; }

case $what in
  demo) ./scripts/apt.sh gcc libc6-dev erlang-base ;;
  test) ./scripts/apt.sh gcc g++ libc6-dev make erlang-base erlang-dev erlang-eunit erlang-tools erlang-common-test erlang-crypto erlang-ssl openssl rebar3 elixir ;;
  *) echo "usage: setup.sh demo|test" >&2; exit 2 ;;
esac

if [ ! -x "$venv/bin/python" ]; then
  echo "making a Python virtual environment"
  python3 -m venv "$venv" >/dev/null 2>&1 || { rm -rf "$venv"; ./scripts/apt.sh python3-venv; python3 -m venv "$venv"; }
fi
requirements=scripts/requirements-$what.txt
stamp=$build/.requirements-$what
if ! cmp -s "$requirements" "$stamp"; then
  echo "installing Python packages for: $what"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi
if [ "$what" = test ]; then
  ./scripts/fetch-prometheus.sh >/dev/null
  # A newer OTP: `dichroic attach` loads other code into it.
  ./scripts/fetch-otp.sh trixie >/dev/null
fi
