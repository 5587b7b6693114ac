# SPDX-License-Identifier: Apache-2.0
dumpcast_add_fuzzer(vmcore_block
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/vmcore_block_fuzzer.cc" LINK dumpcast_vmcore)
dumpcast_add_fuzzer(vmcore_encrypted
  SOURCES "${CMAKE_CURRENT_LIST_DIR}/vmcore_encrypted_fuzzer.cc" LINK dumpcast_vmcore)
foreach(name vmcore_meta vmcore_log)
  dumpcast_add_fuzzer(${name}
    SOURCES "${CMAKE_CURRENT_LIST_DIR}/${name}_fuzzer.cc" LINK dumpcast_dump_builder)
endforeach()
