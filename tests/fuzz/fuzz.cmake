# Fuzzers, a source and a folder of seeds each; clang's libFuzzer drives them.
#
#   cmake --preset fuzz && cmake --build --preset fuzz
#   build/fuzz/fuzz_spec -max_total_time=600 build/fuzz/corpus/spec \
#     tests/fuzz/seeds/spec
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "SACCADE_FUZZ needs clang (cmake --preset fuzz)")
endif()
# The parsers are fuzzed, not the kernels: one target is enough of those.
target_compile_definitions(saccade_flags INTERFACE HWY_COMPILE_ONLY_STATIC)
target_compile_options(saccade_flags INTERFACE -fsanitize=fuzzer-no-link)

enable_testing()
add_custom_target(saccade_fuzz)
file(GLOB fuzzers CONFIGURE_DEPENDS tests/fuzz/*.cc)
foreach(source IN LISTS fuzzers)
  get_filename_component(name ${source} NAME_WE)
  add_executable(fuzz_${name} ${source})
  target_link_libraries(fuzz_${name}
    PRIVATE saccade_bench saccade_reports saccade_flags ZLIB::ZLIB)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(saccade_fuzz fuzz_${name})
  set(corpus ${CMAKE_BINARY_DIR}/corpus/${name})
  file(MAKE_DIRECTORY ${corpus})
  # All seeds, then five seconds of mutations of them.
  add_test(NAME fuzz_${name} COMMAND fuzz_${name}
    -max_total_time=5 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
    -artifact_prefix=${corpus}/ ${corpus}
    ${CMAKE_SOURCE_DIR}/tests/fuzz/seeds/${name})
endforeach()
