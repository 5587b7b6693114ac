# SPDX-License-Identifier: Apache-2.0

# dumpcast_add_fuzzer(<name> SOURCES <file>... LINK <target>...)
#
# A libFuzzer binary fuzz_<name> that `./dev fuzz <name>` runs over the corpus in
# tests/fuzz/corpus/<name>. Outside a DUMPCAST_FUZZ build it does nothing.
function(dumpcast_add_fuzzer name)
  if(NOT DUMPCAST_FUZZ)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(fuzz_${name} ${arg_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(fuzz_${name} PRIVATE ${arg_LINK})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
endfunction()
