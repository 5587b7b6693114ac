# SPDX-License-Identifier: Apache-2.0
#
# Flags for every target of the tree. Generated code and imported headers are
# outside: the former are compiled with -w (Proto.cmake), the latter are SYSTEM.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

# RelWithDebInfo is the developers' build: asserts stay on.
foreach(lang C CXX)
  string(REPLACE "-DNDEBUG" "" CMAKE_${lang}_FLAGS_RELWITHDEBINFO
         "${CMAKE_${lang}_FLAGS_RELWITHDEBINFO}")
endforeach()

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)  # kmod/core is compiled as gnu11 by Kbuild, too
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(DUMPCAST_CCACHE ccache)
if(DUMPCAST_CCACHE)
  foreach(lang C CXX)
    if(NOT CMAKE_${lang}_COMPILER_LAUNCHER)
      set(CMAKE_${lang}_COMPILER_LAUNCHER "${DUMPCAST_CCACHE}")
    endif()
  endforeach()
endif()

add_compile_options(-Wall -Wextra)
if(DUMPCAST_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13
   AND CMAKE_BUILD_TYPE STREQUAL "Release")
  # gcc 12 sees overlaps in "text" + std::string that are not there (its bug 105651), at -O3.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND DUMPCAST_SANITIZE)
  # gcc 12 loses track of values between the sanitizers' checks and reports
  # uses of uninitialized memory that the plain build proves absent.
  add_compile_options(-Wno-maybe-uninitialized)
endif()

if(DUMPCAST_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR
      "DUMPCAST_FUZZ needs clang (libFuzzer), the compiler is ${CMAKE_CXX_COMPILER_ID}: "
      "use `cmake --preset fuzz`, or set CC=clang-14 CXX=clang++-14")
  endif()
  # Coverage for every library that a fuzzer drives; only the fuzzers
  # themselves link the driver with its main().
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(DUMPCAST_SANITIZE)
  add_compile_options(-fsanitize=${DUMPCAST_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${DUMPCAST_SANITIZE})
endif()

# Third-party static code must not leak symbols or flags into ours; all of it is
# shared libraries from Debian, so `-Wl,--as-needed` keeps the binaries lean.
add_link_options(-Wl,--as-needed)
