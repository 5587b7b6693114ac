# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

help_fuzz() {
  cat <<'END'
./dev fuzz [NAME...] [--seconds N] [--list]

Builds the fuzzers (clang, libFuzzer, address and undefined sanitizers) and runs
each, or the named ones, for N seconds (default 60) from tests/fuzz/corpus/NAME.
New inputs are kept in build/fuzz/corpus/NAME, a crashing one in
build/fuzz/crashes/NAME-*; run it again with  build/fuzz/tests/fuzz/fuzz_NAME FILE
END
}

cmd_fuzz() {
  local seconds=60 names=() list=0
  while (($#)); do
    case "$1" in
      --seconds) seconds="${2:?--seconds needs a number}" && shift ;;
      --seconds=*) seconds="${1#*=}" ;;
      --list) list=1 ;;
      -*) usage_error fuzz "unknown option $1" ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  [[ "$seconds" =~ ^[0-9]+$ ]] || usage_error fuzz "--seconds wants a whole number, got '$seconds'"
  need_deps build fuzz
  build_preset fuzz --target fuzzers
  local all
  mapfile -t all < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -name 'fuzz_*' -executable \
    -printf '%f\n' 2>/dev/null | sed 's/^fuzz_//' | sort)
  ((${#all[@]})) || die "the fuzz build has no fuzz_* program: tests/fuzz/CMakeLists.txt defines them with dumpcast_add_fuzzer()"
  if ((list)); then
    printf '%s\n' "${all[@]}"
    return
  fi
  ((${#names[@]})) || names=("${all[@]}")
  local name failed=()
  for name in "${names[@]}"; do
    [[ " ${all[*]} " == *" $name "* ]] || die "no fuzzer '$name' (there are: ${all[*]})"
    mkdir -p "build/fuzz/corpus/$name" build/fuzz/crashes
    local seeds=()
    [[ ! -d "tests/fuzz/corpus/$name" ]] || seeds=("tests/fuzz/corpus/$name")
    say "== fuzz $name, $seconds s"
    "build/fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
      -print_final_stats=1 -artifact_prefix="build/fuzz/crashes/$name-" \
      "build/fuzz/corpus/$name" "${seeds[@]}" >"build/fuzz/$name.log" 2>&1 || failed+=("$name")
    grep -E 'stat::number_of_executed_units|ERROR|SUMMARY|Test unit written' "build/fuzz/$name.log" || true
  done
  ((${#failed[@]} == 0)) || die "found something in: ${failed[*]} (build/fuzz/NAME.log, build/fuzz/crashes/)"
  printf '%d fuzzers ran %d s each, none found anything\n' "${#names[@]}" "$seconds"
}
