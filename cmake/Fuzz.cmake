# SPDX-License-Identifier: Apache-2.0

# dumpcast_add_fuzzer(<name> SOURCES <file>... LINK <target>...)
#
# A libFuzzer binary fuzz_<name> that `./dev fuzz <name>` runs over the corpus in
# tests/fuzz/corpus/<name>; the target `fuzzers` builds all of them. Outside a DUMPCAST_FUZZ build it does nothing.
add_custom_target(fuzzers)
function(dumpcast_add_fuzzer name)
  if(NOT DUMPCAST_FUZZ)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(fuzz_${name} ${arg_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(fuzz_${name} PRIVATE ${arg_LINK})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers fuzz_${name})
endfunction()
