# SPDX-License-Identifier: Apache-2.0
#
# `cmake --build build/dev --target kmod` builds the kernel module through Kbuild.
# `./dev kmod` does the work, so that both roads end in build/kmod/<version>/.

set(DUMPCAST_KERNEL "all" CACHE STRING
    "Kernel versions for the kmod target: all, or one as `./dev kmod --kernel` takes it")

add_custom_target(kmod
  COMMAND "${PROJECT_SOURCE_DIR}/dev" kmod --kernel "${DUMPCAST_KERNEL}"
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  USES_TERMINAL
  VERBATIM)
