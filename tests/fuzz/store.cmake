# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(store_query
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/store_query_fuzzer.cc" LINK dumpcast_store)
dumpcast_add_fuzzer(store_block_map
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/store_block_map_fuzzer.cc" LINK dumpcast_store)
dumpcast_add_fuzzer(store_expectation
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/store_expectation_fuzzer.cc" LINK dumpcast_store)
