# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

help_demo() {
  cat <<'END'
./dev demo [--backtrace] [DEMO ARGUMENTS]

From panic to backtrace on this machine: three relays in network namespaces, a
Debian kernel in QEMU (software emulation, no KVM) with two NICs, armed and then
crashed; one relay is killed and one NIC cut while the dump runs. Ends with the
panic line and log read over gRPC and, with --backtrace, with crash's own `bt`
(downloads the kernel's debug package once, about 1 GB, kept in DUMPCAST_CACHE).

Needs root, for namespaces and bridges; leaves nothing running.
END
  if [[ -f tests/vm/demo.py && -x "$PYTHON" ]]; then
    printf '\nThe demo itself says:\n\n'
    "$PYTHON" tests/vm/demo.py --help || true
  fi
}

cmd_demo() {
  ((EUID == 0)) || die "demo makes network namespaces and bridges: run it as root (sudo ./dev demo)"
  need_deps build kmod demo
  say "demo: building (build/dev)"
  build_preset dev --target dumpcast-relay dumpcast dumpcast-arm dumpcast-send
  cd -- "$DEV_CALLED_FROM" || die "cannot return to $DEV_CALLED_FROM"
  exec "$PYTHON" "$DEV_ROOT/tests/vm/demo.py" "$@"
}
