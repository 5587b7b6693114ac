# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

help_helm() {
  cat <<'END'
./dev helm HELM-ARGUMENTS

Runs Helm, the version that tests/helm uses (fetched once into DUMPCAST_CACHE):

  ./dev helm template demo helm/dumpcast -f helm/dumpcast/ci/multicast-values.yaml
  ./dev helm lint helm/dumpcast
END
}

cmd_helm() {
  if (($# == 0)) || [[ "$1" == --help && $# == 1 ]]; then
    help_helm
    return
  fi
  need_deps helm
  local helm
  helm="$("$PYTHON" tests/helm/helm_binary.py)" || die "Helm could not be fetched"
  cd -- "$DEV_CALLED_FROM" || die "cannot return to $DEV_CALLED_FROM"
  exec "$helm" "$@"
}
