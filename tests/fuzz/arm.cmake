# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(arm_config
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/arm_config_fuzzer.cc" LINK dumpcast_arm_lib)
dumpcast_add_fuzzer(arm_status
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/arm_status_fuzzer.cc" LINK dumpcast_arm_lib)
