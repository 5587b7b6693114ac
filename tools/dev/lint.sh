# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev lint: everything that reads the sources without running them.

help_lint() {
  cat <<'END'
./dev lint [--fix] [--tidy[=changed|all]] [STEP...]

Steps (all of them without a name):

  tools      the lint tools' own tests
  includes   who may include, import and link whom (tools/check_includes.py)
  tree       SPDX lines, a README per folder, no unfinished notes
  format     clang-format-14; --fix rewrites the files instead
  python     compiles, and pyflakes finds nothing
  shell      shellcheck
  cppcheck   warnings, performance, portability
  tidy       clang-tidy-14 on the dev build; only when asked for, it takes minutes.
             "changed" looks at what differs from HEAD and at HEAD's own commit

sparse and W=1 are part of ./dev kmod --sparse.
END
}

LINT_STEPS=(tools includes tree format python shell cppcheck)

cmd_lint() {
  local fix=0 tidy="" only_tidy=0 steps=()
  while (($#)); do
    case "$1" in
      --fix) fix=1 ;;
      --tidy) tidy=all ;;
      --tidy=*) tidy="${1#*=}" ;;
      -*) usage_error lint "unknown option $1" ;;
      tidy) tidy=all only_tidy=1 ;;
      *)
        [[ " ${LINT_STEPS[*]} " == *" $1 "* ]] ||
          usage_error lint "unknown step '$1' (steps: ${LINT_STEPS[*]} tidy)"
        steps+=("$1")
        ;;
    esac
    shift
  done
  case "$tidy" in
    "" | changed | all) ;;
    *) usage_error lint "--tidy wants changed or all, got '$tidy'" ;;
  esac
  need_deps lint
  if ((fix)); then
    lint_sources | xargs -0 -r clang-format-14 -i
    return
  fi
  ((${#steps[@]} || only_tidy)) || steps=("${LINT_STEPS[@]}")
  LINT_PASSED=0 LINT_FAILED=0
  lint_run "$tidy" "${steps[@]}"
  ((LINT_FAILED == 0)) || die "lint: $LINT_FAILED of $((LINT_PASSED + LINT_FAILED)) steps failed"
  printf 'lint: %d steps passed\n' "$LINT_PASSED"
}

# lint_run TIDY STEP...: adds to LINT_PASSED and LINT_FAILED.
lint_run() {
  local tidy="$1" step out
  shift
  mkdir -p build/lint
  [[ -z "$tidy" ]] || set -- "$@" tidy
  for step in "$@"; do
    out="build/lint/$step.log"
    if "lint_$step" "$tidy" >"$out" 2>&1; then
      say "lint: $step ok"
      LINT_PASSED=$((LINT_PASSED + 1))
    else
      head -n 60 "$out" >&2
      say "lint: $step FAILED ($(wc -l <"$out") lines, all of them in $out)"
      LINT_FAILED=$((LINT_FAILED + 1))
    fi
  done
}

# lint_files GLOB...: NUL-separated files that git knows or would add.
lint_files() {
  git ls-files -coz --exclude-standard -- "$@" | while IFS= read -r -d '' file; do
    [[ -f "$file" ]] && printf '%s\0' "$file"
  done
}
lint_sources() { lint_files '*.c' '*.h' '*.cc'; }

lint_tools() { "$PYTHON" -m unittest discover -s tools/tests; }
lint_includes() { "$PYTHON" tools/check_includes.py; }
lint_tree() { "$PYTHON" tools/check_tree.py; }
lint_format() { lint_sources | xargs -0 -r clang-format-14 --dry-run -Werror; }

lint_python() {
  local list=build/lint/python.files
  lint_files '*.py' >"$list"
  xargs -0 -r "$PYTHON" -c '
import sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        compile(file.read(), name, "exec")' <"$list" &&
    xargs -0 -r "$PYTHON" -m pyflakes <"$list"
}

lint_shell() {
  local file scripts=(dev .ci/run)
  while IFS= read -r -d '' file; do scripts+=("$file"); done < <(lint_files '*.sh')
  shellcheck --severity=warning "${scripts[@]}"
}

# Suppressed for C++ is what cppcheck 2.10 misreads: `(a == b) != c.empty()`, an array
# element that a call's result is assigned to, and a move into a StatusOr. Kernel C adds
# arithmetic on void pointers, and memory that only kernel functions initialize.
lint_cppcheck() {
  local list=build/lint/cppcheck.files kernel=build/lint/cppcheck-kernel.files status=0
  local common=(--quiet --error-exitcode=1 --inline-suppr -j"$(nproc)" -I.
    "--enable=warning,performance,portability" --suppress=unknownMacro
    --suppress=normalCheckLevelMaxBranches --suppress=missingInclude)
  lint_files 'kmod/*.cc' 'relay/*.cc' 'store/*.cc' 'client/*.cc' 'protos/*.cc' | tr '\0' '\n' >"$list"
  lint_files 'kmod/core/*.c' 'kmod/linux/*.c' | tr '\0' '\n' >"$kernel"
  mkdir -p build/lint/cppcheck build/lint/cppcheck-kernel
  if [[ -s "$list" ]]; then
    cppcheck "${common[@]}" --std=c++20 --cppcheck-build-dir=build/lint/cppcheck \
      --suppress=returnStdMoveLocal --suppress=compareBoolExpressionWithInt \
      --suppress=constStatement --file-list="$list" || status=1
  fi
  if [[ -s "$kernel" ]]; then
    cppcheck "${common[@]}" --std=c11 --cppcheck-build-dir=build/lint/cppcheck-kernel \
      --suppress=arithOperationsOnVoidPointer --suppress=uninitvar \
      --file-list="$kernel" || status=1
  fi
  return "$status"
}

lint_tidy() {
  local which="$1" file files=()
  need_deps build
  build_preset dev
  while IFS= read -r -d '' file; do
    # Only what the dev build compiles: kernel-side files are no part of it.
    grep -qF "/$file\"" build/dev/compile_commands.json && files+=("$file")
  done < <(if [[ "$which" == changed ]]; then
    { git diff -z --name-only HEAD -- '*.c' '*.cc'
      git diff-tree -z --no-commit-id --name-only -r HEAD -- '*.c' '*.cc'; } | sort -zu
  else
    lint_files '*.c' '*.cc'
  fi)
  ((${#files[@]})) || { echo "no files to look at"; return 0; }
  printf '%s\0' "${files[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/dev \
      --extra-arg=-Wno-unknown-warning-option
}
