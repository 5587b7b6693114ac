# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev deps: Debian 12 packages by what they are for.

# "command?package" is wanted only when the command is missing: it may have come
# from elsewhere (npm from another repository, say) without being that package.
declare -A DEPS=(
  [build]="build-essential cmake ninja-build ccache pkg-config git help2man
    protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev libabsl-dev
    librocksdb-dev liblz4-dev libzstd-dev liblzo2-dev libsnappy-dev zlib1g-dev libisal-dev libsodium-dev libroaring-dev libspdlog-dev
    libcli11-dev libtomlplusplus-dev nlohmann-json3-dev prometheus-cpp-dev libgtest-dev libgmock-dev"
  [kmod]="build-essential kmod sparse libelf-dev pahole bc python3 git"
  [package]="dpkg-dev debhelper dh-dkms lintian fakeroot"
  [test]="python3-pytest python3-yaml python3-nacl iproute2 nftables procps"
  [vm]="qemu-system-x86 qemu-utils busybox-static cpio kmod crash makedumpfile python3-drgn debootstrap
    kexec-tools mmdebstrap openssl python3-pytest iproute2 ethtool clang-14 nftables procps binutils zstd xz-utils
    ca-certificates"
  [demo]="qemu-system-x86 qemu-utils busybox-static cpio kmod crash makedumpfile python3-drgn
    debootstrap iproute2 nftables procps binutils zstd xz-utils ca-certificates"
  [helm]="python3-pytest python3-yaml npm?npm ca-certificates openssl"
  [lint]="clang-format-14 clang-tidy-14 cppcheck shellcheck sparse python3-pyflakes git"
  [bench]="uftp udpcast python3 ethtool iproute2 nftables"
  [fuzz]="clang-14 libclang-rt-14-dev llvm-14"
)

help_deps() {
  cat <<END
./dev deps [GROUP...] [--list]

Installs the Debian packages of the named groups (all of them without a name).
Does nothing, quickly, when they are installed. --list prints them instead.

Groups: ${!DEPS[*]}

Needs root, or sudo. With DUMPCAST_NO_DEPS=1 a missing package is an error that
names it.
END
}

cmd_deps() {
  local groups=() list=0 group
  while (($#)); do
    case "$1" in
      --list) list=1 ;;
      -*) usage_error deps "unknown option $1" ;;
      *)
        [[ -n "${DEPS[$1]+x}" ]] || usage_error deps "unknown group '$1' (groups: ${!DEPS[*]})"
        groups+=("$1")
        ;;
    esac
    shift
  done
  ((${#groups[@]})) || groups=("${!DEPS[@]}")
  if ((list)); then
    for group in "${groups[@]}"; do printf '%s\n' ${DEPS[$group]}; done | sed 's/.*?//' | sort -u
    return
  fi
  need_deps "${groups[@]}"
  say "deps: ${groups[*]}: installed"
}

# need_deps GROUP...: returns at once when every package of the groups is there.
need_deps() {
  local group word wanted=()
  for group in "$@"; do
    for word in ${DEPS[$group]}; do
      if [[ "$word" == *\?* ]]; then
        command -v "${word%%\?*}" >/dev/null || wanted+=("${word#*\?}")
      else
        wanted+=("$word")
      fi
    done
  done
  local missing
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]})) || return 0

  if [[ "${DUMPCAST_NO_DEPS:-0}" == 1 ]]; then
    die "packages are missing, and DUMPCAST_NO_DEPS=1 forbids installing: ${missing[*]}"
  fi
  command -v apt-get >/dev/null ||
    die "this is not Debian (no apt-get); wanted the equivalents of: ${missing[*]}"
  local root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "packages are missing and this is neither root nor has sudo; as root run: apt-get install ${missing[*]}"
    root=(sudo)
  fi
  say "deps: installing ${missing[*]}"
  local log="$DEV_ROOT/build/deps.log"
  mkdir -p "$DEV_ROOT/build"
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
  # Package lists may be absent (bare machine) or name versions that are gone.
  "${apt[@]}" update >"$log" 2>&1 || say "deps: apt-get update failed (see build/deps.log); trying with the lists there are"
  if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "apt-get could not install: ${missing[*]} (whole log: build/deps.log)"
  fi
}

# missing_packages PACKAGE...: those that are not installed, one a line.
missing_packages() {
  (($#)) || return 0
  dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk -v wanted="$*" '
      $2 == "installed" { have[$1] = 1 }
      END { n = split(wanted, w, " ")
            for (i = 1; i <= n; i++) if (!(w[i] in have) && !seen[w[i]]++) print w[i] }' || true
}
