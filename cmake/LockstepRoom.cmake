# A room is one folder and one static library. It sees only the include path of the repository and links only what
# it names, so that an arrow upwards does not link.
add_library(lockstep_options INTERFACE)
set(warnings_are_errors "")
if(LOCKSTEP_WARNINGS_ARE_ERRORS)
  set(warnings_are_errors -Werror)
endif()
target_include_directories(lockstep_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(lockstep_options INTERFACE
  -Wall -Wextra -Wpedantic ${warnings_are_errors} -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Woverloaded-virtual -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these inside std::variant and coroutine frames where nothing is wrong.
  target_compile_options(lockstep_options INTERFACE -Wno-maybe-uninitialized -Wno-missing-field-initializers)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 reports a copy onto itself wherever it inlines std::string's "one character" + string, at -O2 alone.
    target_compile_options(lockstep_options INTERFACE $<$<NOT:$<CONFIG:Debug>>:-Wno-restrict>)
  endif()
else()
  target_compile_options(lockstep_options INTERFACE -Wno-missing-field-initializers)
endif()
if(LOCKSTEP_SANITIZE)
  target_compile_options(lockstep_options INTERFACE -fsanitize=${LOCKSTEP_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(lockstep_options INTERFACE -fsanitize=${LOCKSTEP_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # clang 14 cannot emit this check's data for coroutines ("Cannot represent a difference across sections").
    target_compile_options(lockstep_options INTERFACE -fno-sanitize=function)
  endif()
endif()
if(LOCKSTEP_FUZZ)
  target_compile_options(lockstep_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(lockstep_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(LOCKSTEP_COVERAGE)
  target_compile_options(lockstep_options INTERFACE -fprofile-instr-generate -fcoverage-mapping)
  target_link_options(lockstep_options INTERFACE -fprofile-instr-generate)
endif()

# lockstep_room(NAME [SOURCES file...] [LINKS target...]): without SOURCES, every .cpp in this folder.
function(lockstep_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
  if(NOT ROOM_SOURCES)
    file(GLOB ROOM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  endif()
  add_library(${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(${name} PUBLIC lockstep_options ${ROOM_LINKS})
endfunction()
