# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

help_bench() {
  cat <<'END'
./dev bench [NAME] [-- ARGUMENTS]

Runs tests/bench/bench_NAME.py on a release build, or each of them. Both sides of
a comparison run side by side, and the last line is their ratio.
END
}

cmd_bench() {
  local name="" file found=()
  if (($#)) && [[ "$1" != -- ]]; then
    name="$1"
    shift
  fi
  [[ "${1-}" != -- ]] || shift
  for file in tests/bench/bench_*.py; do
    [[ -f "$file" ]] || continue
    [[ -z "$name" || "$file" == "tests/bench/bench_$name.py" ]] && found+=("$file")
  done
  if ((${#found[@]} == 0)); then
    [[ -z "$name" ]] || die "no benchmark '$name': wanted tests/bench/bench_$name.py"
    die "no benchmark in tests/bench: wanted at least one bench_NAME.py"
  fi
  need_deps build kmod vm bench
  build_preset release
  for file in "${found[@]}"; do
    say "== $file"
    "$PYTHON" "$file" --build build/release "$@"
  done
}
