# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(relay_engine
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/relay_engine_fuzzer.cc" LINK dumpcast_relay_lib)
dumpcast_add_fuzzer(relay_config
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/relay_config_fuzzer.cc" LINK dumpcast_relay_lib)
