# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev test: every runner, one table, one last line.

TEST_PARTS=(lint unit sim cluster kmod vm helm)
# What runs when no part is named.
TEST_DEFAULT=(lint unit sim cluster kmod vm helm)

help_test() {
  cat <<END
./dev test [PART...] [--all] [--preset dev|asan|tsan] [--no-deps] [-- RUNNER ARGUMENTS]

Without PART: ${TEST_DEFAULT[*]}. Builds what the parts need, runs them, prints a table, and last
"N passed, N failed, N skipped". Ends with 1 when anything failed.

  lint     ./dev lint's steps, one count each
  unit     GoogleTest programs of tests/unit
  sim      the seeded simulation of tests/sim
  cluster  real relays and dumpcast-send in network namespaces (root)
  kmod     the module with W=1 and sparse on each kernel series, one count each
  vm       real kernels in QEMU: crash, receive, compare (root)
  helm     the chart with real Helm

  --all     the long ones too: clang-tidy, every cell of the VM matrix, more seeds
            (sets DUMPCAST_TEST_ALL=1 for the runners)
  --preset  which build the parts run on (default dev)
  --        what follows goes to the one named part's runner (ctest or pytest):
              ./dev test vm -- -k oracle -x

JUnit reports and logs are left in build/test-results/.
END
}

cmd_test() {
  local parts=() preset=dev deps=1 all=0 extra=()
  while (($#)); do
    case "$1" in
      --all) all=1 ;;
      --preset) preset="${2:?--preset needs a name}" && shift ;;
      --preset=*) preset="${1#*=}" ;;
      --no-deps) deps=0 ;;
      --)
        shift
        extra=("$@")
        break
        ;;
      -*) usage_error test "unknown option $1" ;;
      *)
        [[ " ${TEST_PARTS[*]} " == *" $1 "* ]] ||
          usage_error test "unknown part '$1' (parts: ${TEST_PARTS[*]})"
        parts+=("$1")
        ;;
    esac
    shift
  done
  case "$preset" in
    dev | asan | tsan) ;;
    *) usage_error test "unknown preset '$preset' (dev, asan, tsan)" ;;
  esac
  if ((${#extra[@]} && ${#parts[@]} != 1)); then
    usage_error test "runner arguments after -- need exactly one part"
  fi
  ((${#parts[@]})) || parts=("${TEST_DEFAULT[@]}")
  ((all == 0)) || export DUMPCAST_TEST_ALL=1
  export DUMPCAST_BUILD_DIR="$DEV_ROOT/build/$preset"
  # tests/tsan/README.md
  [[ "$preset" != tsan ]] || export TSAN_OPTIONS="${TSAN_OPTIONS:-ignore_noninstrumented_modules=1}"

  TEST_TABLE=() TEST_TOTAL=(0 0 0)
  # Whatever ends this early (no packages, a signal) is a failure, and counted.
  trap 'printf "\n%d passed, %d failed, %d skipped\n" "${TEST_TOTAL[0]}" "$((TEST_TOTAL[1] + 1))" "${TEST_TOTAL[2]}"' EXIT
  test_install "$deps" "${parts[@]}"
  TEST_RESULTS="$DEV_ROOT/build/test-results"
  mkdir -p "$TEST_RESULTS"
  local built=1
  if [[ " ${parts[*]} " =~ \ (unit|sim|cluster|vm)\  ]]; then
    say "== build ($preset)"
    (build_preset "$preset") || built=0
  elif [[ " ${parts[*]} " == *" helm "* ]]; then
    say "== build ($preset), what reads the chart's files"
    (build_preset "$preset" --target dumpcast-relay dumpcast-arm) || built=0
  fi

  local part started
  for part in "${parts[@]}"; do
    say "== $part"
    started=$SECONDS
    if ((built == 0)) && [[ "$part" =~ ^(unit|sim|cluster|vm|helm)$ ]]; then
      say "$part: not run, since the build failed"
      TEST_COUNTS=(0 1 0)
    else
      test_"$part" "${extra[@]}"
    fi
    TEST_TABLE+=("$(printf '%-8s %7d %7d %8d %7ds' "$part" "${TEST_COUNTS[@]}" $((SECONDS - started)))")
    TEST_TOTAL=($((TEST_TOTAL[0] + TEST_COUNTS[0])) $((TEST_TOTAL[1] + TEST_COUNTS[1]))
      $((TEST_TOTAL[2] + TEST_COUNTS[2])))
  done
  trap - EXIT
  printf '\n%-8s %7s %7s %8s %8s\n' part passed failed skipped time
  printf '%s\n' "${TEST_TABLE[@]}"
  printf '\n%d passed, %d failed, %d skipped\n' "${TEST_TOTAL[@]}"
  ((TEST_TOTAL[1] == 0)) || exit 1
}

# test_install DEPS PART...: the packages of the parts, in one go.
test_install() {
  local deps="$1" part groups=()
  shift
  ((deps)) || return 0
  for part in "$@"; do
    case "$part" in
      lint) groups+=(lint) ;;
      unit | sim) groups+=(build) ;;
      cluster) groups+=(build test) ;;
      kmod) groups+=(kmod) ;;
      vm) groups+=(build kmod package vm) ;;
      helm) groups+=(build helm) ;;
    esac
  done
  need_deps "${groups[@]}"
}

# Every test_PART sets TEST_COUNTS to (passed failed skipped).

# test_count PART STATUS: reads the part's report, names what failed.
test_count() {
  local report="$TEST_RESULTS/$1.xml"
  read -r -a TEST_COUNTS < <("$PYTHON" tools/junit_sum.py "$report" "$2")
  ((TEST_COUNTS[1] == 0)) || {
    say "$1: failed:"
    "$PYTHON" tools/junit_sum.py --failures "$report" | sed 's/^/  /' >&2
  }
}

test_ctest() {
  local part="$1" status=0
  shift
  rm -f "$TEST_RESULTS/$part.xml"
  ctest --test-dir "$DUMPCAST_BUILD_DIR" --output-on-failure --no-tests=error -j"$(nproc)" \
    --output-junit "$TEST_RESULTS/$part.xml" "$@" >"$TEST_RESULTS/$part.log" 2>&1 || status=$?
  ((status == 0)) || grep -vE '^ *[0-9]+/[0-9]+ Test .*Passed|^ *Start ' "$TEST_RESULTS/$part.log" |
    head -n 200 >&2
  test_count "$part" "$status"
}
test_unit() { test_ctest unit -LE '^sim$' "$@"; }
test_sim() { test_ctest sim -L '^sim$' "$@"; }

test_pytest() {
  local part="$1" status=0
  shift
  rm -f "$TEST_RESULTS/$part.xml"
  # The report's format is pytest's own; the cache folder would litter the tree.
  "$PYTHON" -m pytest -p no:cacheprovider -q -rfEs --junit-xml="$TEST_RESULTS/$part.xml" \
    "tests/$part" "$@" 2>&1 | tee "$TEST_RESULTS/$part.log" >&2 || status=$?
  test_count "$part" "$status"
}
# As many side by side as there are processors, unless the runner is told something.
test_shards() {
  local part="$1" shards shard pids=() sum=(0 0 0)
  shift
  if (($#)); then
    test_pytest "$part" "$@"
    return
  fi
  shards="$(nproc)"
  ((shards <= 4)) || shards=4
  for ((shard = 1; shard <= shards; shard++)); do
    rm -f "$TEST_RESULTS/$part-$shard.xml"
    "$PYTHON" -m pytest -p no:cacheprovider -q -rfEs --junit-xml="$TEST_RESULTS/$part-$shard.xml" \
      --shard "$shard/$shards" "tests/$part" >"$TEST_RESULTS/$part-$shard.log" 2>&1 &
    pids+=($!)
  done
  # They do not hear the terminal's Ctrl-C.
  trap 'kill "${pids[@]}" 2>/dev/null; wait; exit 130' INT TERM
  for ((shard = 1; shard <= shards; shard++)); do
    local status=0
    wait "${pids[shard - 1]}" || status=$?
    cat "$TEST_RESULTS/$part-$shard.log" >&2
    test_count "$part-$shard" "$status"
    sum=($((sum[0] + TEST_COUNTS[0])) $((sum[1] + TEST_COUNTS[1])) $((sum[2] + TEST_COUNTS[2])))
  done
  trap - INT TERM
  TEST_COUNTS=("${sum[@]}")
}
# Of the address sanitizer: the clock that some tests move is preloaded, ahead of it; and some measure a relay's memory,
# to which it would add 256 MiB that have been freed.
test_cluster() {
  if [[ "$preset" == asan ]]; then
    ASAN_OPTIONS="${ASAN_OPTIONS:-verify_asan_link_order=0:quarantine_size_mb=8}" test_shards cluster "$@"
  else
    test_shards cluster "$@"
  fi
}
test_vm() {
  test_shards vm "$@"
  [[ -z "${DUMPCAST_TEST_ALL:-}" || $# != 0 ]] || test_vm_table
}

# The tables of the matrices' cells, of this run and of those before.
test_vm_table() {
  local table=build/matrix/table.md
  "$PYTHON" -m pytest -p no:cacheprovider -q --collect-only --table "$table" tests/vm >/dev/null 2>&1 ||
    say "vm: no table could be made"
  cat "$table" >&2
  say "vm: the table is $table"
}
test_helm() { test_pytest helm "$@"; }

test_lint() {
  LINT_PASSED=0 LINT_FAILED=0
  lint_run "${DUMPCAST_TEST_ALL:+all}" "${LINT_STEPS[@]}"
  TEST_COUNTS=("$LINT_PASSED" "$LINT_FAILED" 0)
}

test_kmod() {
  local series
  TEST_COUNTS=(0 0 0)
  for series in "${KMOD_SERIES[@]}"; do
    # A subshell, since a failed build ends the script that it runs in.
    if (cmd_kmod --no-deps --kernel "$series" --sparse) >&2; then
      TEST_COUNTS[0]=$((TEST_COUNTS[0] + 1))
    else
      TEST_COUNTS[1]=$((TEST_COUNTS[1] + 1))
    fi
  done
}
