#!/usr/bin/env bash
# Builds Elixir and the libraries of tests/libraries/sources.txt into build/libraries, once for each set of tags. Takes about six minutes of
# one core. Needs git, Erlang/OTP 25 or newer and make. To clone from elsewhere, use git's `url.<base>.insteadOf`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/libraries
list=$PWD/tests/libraries/sources.txt
elixir=v1.18.4 # the last minor version that runs on OTP 25
stamp="$elixir $(cat "$list" tests/libraries/build.exs | sha256sum | cut -c1-16) $(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')"
if [ "$(cat "$root/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
command -v erl >/dev/null || { echo "build-libraries: Erlang/OTP 25 or newer is missing" >&2; exit 1; }

checkout() { # REPOSITORY TAG FOLDER
  if [ "$(cat "$3/.tag" 2>/dev/null)" != "$2" ]; then
    rm -rf "$3"
    git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$2" "https://github.com/$1" "$3" < /dev/null
    echo "$2" > "$3/.tag"
  fi
}

mkdir -p "$root/src" "$root/lib"
checkout elixir-lang/elixir "$elixir" "$root/elixir"
if [ ! -x "$root/elixir/bin/elixir" ] || [ ! -f "$root/elixir/lib/mix/ebin/mix.app" ]; then
  echo "build-libraries: elixir $elixir"
  make -C "$root/elixir" compile > "$root/elixir.log" 2>&1 || { tail -20 "$root/elixir.log" >&2; exit 1; }
fi
export PATH=$root/elixir/bin:$PATH
while read -r name repository tag folder; do
  case $name in '#'*|'') continue ;; esac
  case $repository in
    ./*) source=$PWD/$repository ;;
    *) source=$root/src/${repository#*/}; checkout "$repository" "$tag" "$source" ;;
  esac
  if [ "$(cat "$root/lib/$name/tag" 2>/dev/null)" != "$tag" ]; then
    echo "build-libraries: $name $tag"
    rm -rf "$root/lib/$name"
    ERL_LIBS=$root/lib elixir tests/libraries/build.exs "$name" "$source/${folder:-}" "$root/lib/$name" > "$root/$name.log" < /dev/null 2>&1 ||
      { tail -30 "$root/$name.log" >&2; echo "build-libraries: $name does not build; see $root/$name.log" >&2; exit 1; }
    echo "$tag" > "$root/lib/$name/tag"
  fi
done < "$list"
echo "$stamp" > "$root/stamp"
echo "build-libraries: done"
