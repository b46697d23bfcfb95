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
  set_target_properties(saccade_c PROPERTIES VERSION "" SOVERSION "")
  install(TARGETS saccade_c LIBRARY DESTINATION saccade COMPONENT python)
endif()

set(CPACK_PACKAGE_NAME saccade)
set(CPACK_PACKAGE_CONTACT "The Saccade authors <saccade@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR})
set(CPACK_DEBIAN_LIB_PACKAGE_NAME libsaccade${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIB_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libsaccade-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
  "libsaccade${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}), libhwy-dev, libtbb-dev")
set(CPACK_COMPONENTS_ALL lib dev)
if(SACCADE_BUILD_BENCH)
  list(APPEND CPACK_COMPONENTS_ALL program)
  set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME saccade)
  set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
endif()
include(CPack)
