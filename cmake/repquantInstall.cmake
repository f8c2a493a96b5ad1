# SPDX-License-Identifier: MIT
# Install rules: headers, targets, and a package config that find_package(repquant) reads.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Header only, so independent of the architecture: a shared folder.
set(config_dir "${CMAKE_INSTALL_DATADIR}/cmake/repquant")

install(TARGETS repquant_run repquant_repquant EXPORT repquantTargets
        FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILE_SET doors DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT repquantTargets NAMESPACE repquant:: DESTINATION "${config_dir}")
# Text that headers include more than once is no header: it does not compile alone.
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/repquant" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.inc")
if(REPQUANT_IO)
  # Of its own, so that find_package(repquant) never gains a dependency by it.
  install(TARGETS repquant_io EXPORT repquantIoTargets
          FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
          FILE_SET doors DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT repquantIoTargets NAMESPACE repquant:: DESTINATION "${config_dir}")
endif()

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/repquantConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/repquantConfig.cmake" INSTALL_DESTINATION "${config_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/repquantConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/repquantConfig.cmake" "${PROJECT_BINARY_DIR}/repquantConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/repquantDispatch.cmake"
        DESTINATION "${config_dir}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/repquant")
