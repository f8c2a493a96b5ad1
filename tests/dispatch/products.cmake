# SPDX-License-Identifier: MIT
# Compiles the products of all instruction sets without a flag for any, and has the object read.
set(includes)
foreach(dir IN LISTS INCLUDE_DIRS)
  if(NOT dir STREQUAL "/usr/include")
    list(APPEND includes "-I${dir}")
  endif()
endforeach()
execute_process(COMMAND "${COMPILER}" -std=c++20 -O2 ${includes} -c "${FILE}" -o "${OBJECT}"
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${PYTHON}" "${SCRIPT}" --products "${OBJECT}" COMMAND_ERROR_IS_FATAL ANY)
