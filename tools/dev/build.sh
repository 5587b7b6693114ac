# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev build, and what other commands use to find the binaries.

help_build() {
  cat <<'END'
./dev build [--preset NAME] [--target TARGET] [--jobs N] [--no-deps]

Configures (once) and builds with a preset of CMakePresets.json into build/NAME:

  dev      optimized, asserts and debug information on (default)
  release  what is installed; no tests
  asan     address and undefined-behaviour sanitizers
  tsan     thread sanitizer
  fuzz     libFuzzer targets, with clang

The kernel module is built by ./dev kmod.
END
}

cmd_build() {
  local preset=dev target=() jobs=() deps=1
  while (($#)); do
    case "$1" in
      --preset) preset="${2:?--preset needs a name}" && shift ;;
      --preset=*) preset="${1#*=}" ;;
      --target) target+=(--target "${2:?--target needs a name}") && shift ;;
      --target=*) target+=(--target "${1#*=}") ;;
      --jobs | -j) jobs=(-j "${2:?--jobs needs a number}") && shift ;;
      --jobs=*) jobs=(-j "${1#*=}") ;;
      --no-deps) deps=0 ;;
      *) usage_error build "unknown argument $1" ;;
    esac
    shift
  done
  case "$preset" in
    dev | release | asan | tsan | fuzz) ;;
    *) usage_error build "unknown preset '$preset' (dev, release, asan, tsan, fuzz)" ;;
  esac
  if ((deps)); then
    need_deps build
    [[ "$preset" != fuzz ]] || need_deps fuzz
  fi
  build_preset "$preset" "${target[@]}" "${jobs[@]}"
}

# build_preset NAME [cmake --build arguments]: output goes to stderr, since it is progress.
build_preset() {
  local preset="$1"
  shift
  if [[ ! -f "build/$preset/build.ninja" ]]; then
    mkdir -p "build/$preset"
    cmake --preset "$preset" >"build/$preset/configure.log" 2>&1 || {
      cat "build/$preset/configure.log" >&2
      die "cmake --preset $preset failed"
    }
  fi
  cmake --build "build/$preset" "$@" >&2 || return
  [[ "$preset" != dev ]] || ln -sfn build/dev/compile_commands.json compile_commands.json
}
