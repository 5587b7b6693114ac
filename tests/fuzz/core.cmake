# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(core_input
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/core_input_fuzzer.cc" LINK dumpcast_core)
dumpcast_add_fuzzer(core_memory_source
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/core_memory_source_fuzzer.cc" LINK dumpcast_send_lib)
dumpcast_add_fuzzer(core_key_file
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/core_key_file_fuzzer.cc" LINK dumpcast_keys)
dumpcast_add_fuzzer(core_page_filter
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/core_page_filter_fuzzer.cc" LINK dumpcast_send_lib)
