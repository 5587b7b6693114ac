# SPDX-License-Identifier: Apache-2.0
#
# Man pages of programs whose help says it all, made from it by help2man.
find_program(HELP2MAN help2man REQUIRED)
include(GNUInstallDirs)

# dumpcast_man_page(<target> <section> <what it does, for whatis> [<help2man's further options>...])
function(dumpcast_man_page target section what)
  set(page "${CMAKE_CURRENT_BINARY_DIR}/${target}.${section}")
  add_custom_command(
    OUTPUT "${page}"
    COMMAND "${HELP2MAN}" --no-info --section=${section} "--name=${what}" "--manual=dumpcast"
            ${ARGN} --output=${page} $<TARGET_FILE:${target}>
    DEPENDS ${target}
    VERBATIM)
  add_custom_target(${target}-man ALL DEPENDS "${page}")
  install(FILES "${page}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}")
endfunction()
