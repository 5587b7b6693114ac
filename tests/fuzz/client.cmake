# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(client_config
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/client_config_fuzzer.cc" LINK dumpcast_client_lib)
