# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ./dev package: dpkg-buildpackage on a copy of the tree, and lintian on what it made.

help_package() {
  cat <<'END'
./dev package [--version VERSION] [--no-lintian] [--no-deps]

Builds the Debian packages of packaging/debian into build/packages/:

  dumpcast-dkms_VERSION_all.deb     the module's source; DKMS builds it on the host
  dumpcast-arm_VERSION_amd64.deb    the host's tool and its service
  dumpcast-kdump_VERSION_amd64.deb  the second sender, for hosts with a crash kernel

and checks them with lintian; an error fails. Their paths are printed on
standard output.

  --version VERSION  instead of the newest one in packaging/debian/changelog
  --no-lintian       leave the check out
END
}

cmd_package() {
  local version="" lintian=1 deps=1
  while (($#)); do
    case "$1" in
      --version) version="${2:?--version needs a version}" && shift ;;
      --version=*) version="${1#*=}" ;;
      --no-lintian) lintian=0 ;;
      --no-deps) deps=0 ;;
      *) usage_error package "unknown argument $1" ;;
    esac
    shift
  done
  ((deps == 0)) || need_deps build package
  local out="$DEV_ROOT/build/packages" src="$DEV_ROOT/build/packages/src"
  mkdir -p "$out"
  # Tests that run side by side may all ask for packages.
  exec 8>"$out/.lock"
  flock 8
  package_copy_sources "$src"
  if [[ -n "$version" ]]; then
    package_changelog "$version" "$src/debian/changelog"
  else
    version="$(dpkg-parsechangelog -l "$src/debian/changelog" -S Version)"
  fi
  say "package: $version"
  rm -f "$out/"*_"$version"_*
  # debhelper takes HOME away; ccache would find nothing.
  (cd "$src" && CCACHE_DIR="${CCACHE_DIR:-$HOME/.cache/ccache}" \
    CCACHE_BASEDIR="$src" dpkg-buildpackage -b -us -uc) >"$out/build.log" 2>&1 || {
    tail -n 30 "$out/build.log" >&2
    die "the packages do not build (whole log: build/packages/build.log)"
  }
  local debs=("$out/dumpcast-dkms_${version}_all.deb" "$out/dumpcast-arm_${version}_amd64.deb"
    "$out/dumpcast-kdump_${version}_amd64.deb")
  if ((lintian)); then
    lintian --allow-root --fail-on error "${debs[@]}" >&2 || die "lintian found errors"
  fi
  exec 8>&-
  printf '%s\n' "${debs[@]}"
}

# package_copy_sources DIR: the tree's files as they are now, debian/ on top; files that are the
# same keep their times, and what was built there stays.
package_copy_sources() {
  local dir="$1" file
  mkdir -p "$dir"
  while IFS= read -r -d '' file; do
    [[ -f "$file" ]] || continue
    if ! cmp -s "$file" "$dir/$file"; then
      mkdir -p "$dir/$(dirname "$file")"
      cp "$file" "$dir/$file"
    fi
  done < <(package_sources)
  rm -rf "$dir/debian"
  cp -r packaging/debian "$dir/debian"
}

package_sources() {
  find CMakeLists.txt cmake protos kmod store relay client packaging LICENSES -type f -print0
}

# package_changelog VERSION FILE: puts an entry for it on top.
package_changelog() {
  local version="$1" file="$2" before
  before="$(cat "$file")"
  {
    printf 'dumpcast (%s) unstable; urgency=medium\n\n  * Built from the tree.\n\n' "$version"
    printf ' -- %s  %s\n\n%s\n' "$(dpkg-parsechangelog -l "$file" -S Maintainer)" \
      "$(date -R -u)" "$before"
  } >"$file.new"
  mv "$file.new" "$file"
}
