# Where the library goes, and how others find it: find_package(saccade CONFIG),
# pkg-config, Debian packages. All of it may be moved to another prefix.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set_target_properties(saccade PROPERTIES EXPORT_NAME static)
set_target_properties(saccade_shared PROPERTIES EXPORT_NAME shared)
set_target_properties(saccade_c PROPERTIES EXPORT_NAME c)
install(TARGETS saccade EXPORT saccade-static
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(TARGETS saccade_shared saccade_c EXPORT saccade-shared
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        COMPONENT lib NAMELINK_COMPONENT dev)
install(DIRECTORY common/saccade DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT dev FILES_MATCHING PATTERN "*.h")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/saccade)
foreach(kind static shared)
  install(EXPORT saccade-${kind} NAMESPACE saccade::
          DESTINATION ${package_dir} COMPONENT dev)
endforeach()
configure_package_config_file(common/saccade-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/saccade-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/saccade-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/saccade-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/saccade-config-version.cmake
        DESTINATION ${package_dir} COMPONENT dev)

# From lib/pkgconfig, wherever that is, to the prefix.
file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
foreach(face saccade saccade-c)
  configure_file(common/${face}.pc.in ${face}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${face}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
endforeach()

# Inside a wheel the C library lies beside the Python that opens it.
if(SKBUILD)
  set_property(TARGET saccade_c PROPERTY VERSION)
  set_property(TARGET saccade_c PROPERTY SOVERSION)
  install(TARGETS saccade_c LIBRARY DESTINATION saccade COMPONENT python)
  install(FILES LICENSE DESTINATION saccade COMPONENT python)
endif()

# Packages: one archive of all (cpack -G TGZ), or Debian's three.
set(CPACK_PACKAGE_NAME saccade)
set(CPACK_PACKAGE_CONTACT "The Saccade authors <saccade@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR})
set(soname libsaccade${PROJECT_VERSION_MAJOR})
# component, package, section, what it holds
set(packages
  "lib|${soname}|libs|Attention variants on CPUs: the C++ and the C library"
  "dev|libsaccade-dev|libdevel|Attention variants on CPUs: headers, static library, examples")
if(SACCADE_BUILD_BENCH)
  list(APPEND packages
    "program|saccade|science|Attention variants on CPUs: the program that compares them")
endif()
foreach(package IN LISTS packages)
  string(REPLACE "|" ";" package "${package}")
  list(GET package 0 component)
  list(GET package 1 name)
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  install(FILES LICENSE RENAME copyright COMPONENT ${component}
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name})
  string(TOUPPER ${component} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_NAME ${name})
  list(GET package 2 CPACK_DEBIAN_${key}_PACKAGE_SECTION)
  list(GET package 3 CPACK_DEBIAN_${key}_DESCRIPTION)
endforeach()
install(DIRECTORY tests/examples COMPONENT dev
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libsaccade-dev)
# A program linked to the static library wants what that is made of.
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
    "${soname} (= ${PROJECT_VERSION}), libhwy-dev, libtbb-dev")
include(CPack)
