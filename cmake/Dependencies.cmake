# SPDX-License-Identifier: Apache-2.0
#
# Every third-party target that a part may link, all from Debian 12 packages
# (`./dev deps build` installs them). Link these names:
#
#   protobuf::libprotobuf          libprotobuf-dev
#   gRPC::grpc++                   libgrpc++-dev
#   gRPC::grpc++_reflection        libgrpc++-dev
#   RocksDB::rocksdb-shared        librocksdb-dev
#   absl::status, absl::strings... libabsl-dev
#   PkgConfig::lz4                 liblz4-dev
#   PkgConfig::zstd                libzstd-dev
#   PkgConfig::lzo2, ::snappy, ::zlib   liblzo2-dev, libsnappy-dev, zlib1g-dev
#   PkgConfig::isal                libisal-dev     (#include <isa-l/erasure_code.h>)
#   PkgConfig::sodium              libsodium-dev
#   roaring::roaring               libroaring-dev  (<roaring/roaring64map.hh>: ::Roaring64Map,
#                                  this version has no namespace)
#   spdlog::spdlog                 libspdlog-dev
#   CLI11::CLI11                   libcli11-dev
#   tomlplusplus::tomlplusplus     libtomlplusplus-dev
#   nlohmann_json::nlohmann_json   nlohmann-json3-dev
#   prometheus-cpp::core, ::pull   prometheus-cpp-dev
#   GTest::gtest_main, GTest::gmock  libgtest-dev, libgmock-dev
#   Threads::Threads

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

find_package(absl CONFIG REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(RocksDB CONFIG REQUIRED)
find_package(roaring CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(tomlplusplus CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)

# The prefix keeps the cached results away from the variables of RocksDB's own
# Findlz4.cmake, which would take them for its own when CMake runs again.
foreach(name lz4 isal sodium zstd)
  pkg_check_modules(dumpcast_${name} REQUIRED IMPORTED_TARGET lib${name})
  add_library(PkgConfig::${name} ALIAS PkgConfig::dumpcast_${name})
endforeach()
foreach(name lzo2 snappy zlib)
  pkg_check_modules(dumpcast_${name} REQUIRED IMPORTED_TARGET ${name})
  add_library(PkgConfig::${name} ALIAS PkgConfig::dumpcast_${name})
endforeach()

if(DUMPCAST_TESTS)
  find_package(GTest CONFIG REQUIRED)
endif()
