# SPDX-License-Identifier: Apache-2.0

# dumpcast_add_proto(<target> <file.proto>...)
#
# A static library of the messages and gRPC stubs of the given files, whose paths
# are relative to the current folder, which is also the import root. Include them
# as "dumpcast/v1/dumps.pb.h" and "dumpcast/v1/dumps.grpc.pb.h". The code goes
# to the build folder and is compiled without our warnings.
function(dumpcast_add_proto target)
  set(out "${CMAKE_CURRENT_BINARY_DIR}/gen")
  set(generated)
  set(protoc "$<TARGET_FILE:protobuf::protoc>")
  find_program(DUMPCAST_GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
  foreach(proto ${ARGN})
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    set(files "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h"
              "${out}/${stem}.grpc.pb.cc" "${out}/${stem}.grpc.pb.h")
    # Any file may import any other: rebuild all when one changes.
    add_custom_command(
      OUTPUT ${files}
      COMMAND ${CMAKE_COMMAND} -E make_directory "${out}"
      COMMAND ${protoc} "--proto_path=${CMAKE_CURRENT_SOURCE_DIR}"
              "--cpp_out=${out}" "--grpc_out=${out}"
              "--plugin=protoc-gen-grpc=${DUMPCAST_GRPC_CPP_PLUGIN}" "${proto}"
      WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
      DEPENDS ${ARGN}
      COMMENT "protoc ${proto}"
      VERBATIM)
    list(APPEND generated ${files})
  endforeach()
  add_library(${target} STATIC ${generated})
  target_include_directories(${target} SYSTEM PUBLIC "${out}")
  target_compile_options(${target} PRIVATE -w)
  target_link_libraries(${target} PUBLIC gRPC::grpc++ protobuf::libprotobuf)
endfunction()
