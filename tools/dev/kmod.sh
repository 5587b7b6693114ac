# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev kmod: Kbuild on a copy of the sources, so that the tree stays clean and
# several kernels are built side by side.

KMOD_SERIES=(6.1 6.12)
KMOD_FLAVOURS=(6.1 6.1-cloud 6.1-rt 6.12 6.12-cloud 6.12-rt)

help_kmod() {
  cat <<END
./dev kmod [--kernel VERSION|all|flavours] [--sparse] [--headers DIR]

Builds dumpcast.ko with W=1; a warning in our files is an error.

  --kernel VERSION  a series (6.1: the newest release of it that Debian has), a
                    flavour of it (6.1-cloud, 6.1-rt), a release (6.1.0-56-amd64);
                    all: ${KMOD_SERIES[*]} (default); flavours: ${KMOD_FLAVOURS[*]};
                    running: the kernel that runs now
  --sparse          run sparse over every file, too (C=2)
  --headers DIR     build against this folder of headers

Headers that are not installed in /lib/modules or /usr/src are fetched from
Debian into DUMPCAST_CACHE, and installed nowhere. The module goes to
build/kmod/RELEASE/dumpcast.ko, with build/kmod/SERIES pointing there; its path
is printed on standard output.
END
}

cmd_kmod() {
  local kernels=() sparse=0 headers="" deps=1
  while (($#)); do
    case "$1" in
      --kernel) kernels+=("${2:?--kernel needs a version}") && shift ;;
      --kernel=*) kernels+=("${1#*=}") ;;
      --headers) headers="${2:?--headers needs a folder}" && shift ;;
      --headers=*) headers="${1#*=}" ;;
      --sparse) sparse=1 ;;
      --no-deps) deps=0 ;;
      *) usage_error kmod "unknown argument $1" ;;
    esac
    shift
  done
  ((${#kernels[@]})) || kernels=(all)
  case " ${kernels[*]} " in
    *" flavours "*) kernels=("${KMOD_FLAVOURS[@]}") ;;
    *" all "*) kernels=("${KMOD_SERIES[@]}") ;;
  esac
  ((deps == 0)) || need_deps kmod
  local kernel
  if [[ -n "$headers" ]]; then
    kmod_build "$headers" "$sparse" ""
    return
  fi
  for kernel in "${kernels[@]}"; do
    headers="$(kmod_headers "$kernel")" || return
    kmod_build "$headers" "$sparse" "$kernel" || return
  done
}

# kmod_headers VERSION: prints the folder for make -C.
kmod_headers() {
  local version="$1" folder
  [[ "$version" != running ]] || version="$(uname -r)"
  for folder in "/lib/modules/$version/build" "/usr/src/linux-headers-$version"; do
    if [[ -f "$folder/Makefile" ]]; then
      printf '%s\n' "$folder"
      return
    fi
  done
  PYTHONPATH="$DEV_ROOT/tests/vm" "$PYTHON" -m vmtest.kernels --headers "$version" ||
    die "no headers for kernel '$version': neither installed nor to be fetched (wanted one of ${KMOD_FLAVOURS[*]}, or a release like 6.1.0-56-amd64)"
}

# kmod_build HEADERS SPARSE ASKED: builds, and prints the module's path.
kmod_build() {
  local headers="$1" sparse="$2" asked="$3" release out src log check=()
  [[ -f "$headers/Makefile" ]] || die "$headers is no folder of kernel headers: it has no Makefile"
  # Debian names the folder after the release; kernel.release in it lacks the flavour.
  release="$(basename "$(readlink -f "$headers")")"
  case "$release" in
    linux-headers-*) release="${release#linux-headers-}" ;;
    *) release="$(cat "$headers/include/config/kernel.release")" ;;
  esac
  out="$DEV_ROOT/build/kmod/$release"
  src="$out/src"
  log="$out/build.log"
  mkdir -p "$src"
  # Tests that run side by side may all ask for the same module.
  exec 8>"$out/.lock"
  flock 8
  kmod_copy_sources "$src"
  if ((sparse)); then
    check=(C=2 CHECK=sparse)
    # The RT kernels' spin_trylock() does not tell sparse of the lock that it takes.
    [[ "$release" != *-rt-* ]] || check+=(CF=-Wno-context)
  fi
  say "kmod: $release${check:+ with sparse}"
  local status=0
  make -C "$headers" M="$src/kmod/linux" W=1 "${check[@]}" -j"$(nproc)" modules >"$log" 2>&1 || status=$?
  # Warnings that the kernel's own headers raise are not ours to fix.
  if grep -E "^$src/[^:]*:[0-9:]+ *(warning|error):" "$log" >&2; then
    status=1
  fi
  if ((status)) || [[ ! -f "$src/kmod/linux/dumpcast.ko" ]]; then
    grep -E 'error|Error|undefined' "$log" | head -n 30 >&2 || true
    die "the module does not build cleanly on $release (whole log: ${log#"$DEV_ROOT"/})"
  fi
  cp -f "$src/kmod/linux/dumpcast.ko" "$out/dumpcast.ko.new"
  mv -f "$out/dumpcast.ko.new" "$out/dumpcast.ko"
  exec 8>&-
  if [[ -n "$asked" && "$asked" != "$release" && "$asked" != running ]]; then
    ln -sfn "$release" "$DEV_ROOT/build/kmod/$asked"
  fi
  printf '%s\n' "$out/dumpcast.ko"
}

# kmod_copy_sources DIR: kmod/ and protos/wire as they are now; unchanged files keep
# their times, so that Kbuild rebuilds only what changed; files gone here go there.
kmod_copy_sources() {
  local dir="$1" file
  while IFS= read -r -d '' file; do
    if [[ ! -f "$dir/$file" ]] || ! cmp -s "$file" "$dir/$file"; then
      mkdir -p "$dir/$(dirname "$file")"
      cp "$file" "$dir/$file"
    fi
  done < <(find kmod/core kmod/linux protos/wire -type f \
    \( -name '*.[chS]' -o -name Kbuild -o -name Makefile -o -name 'Makefile.*' \) -print0)
  while IFS= read -r -d '' file; do
    [[ -f "${file#"$dir"/}" ]] || rm -f "$file"
  done < <(find "$dir" -type f -name '*.[chS]' ! -name '*.mod.c' -print0)
}
