# Instances of CUDA's kernels, a file each for what a list of csrc names: lines `X(kind, type)`.
#
#   fusedrnn_instances(cuda_folder out_folder sources)   writes them below out_folder, appends their paths to `sources`
#   cmake -D OUT=FOLDER -P cuda/instances.cmake          the same without a build, for what compiles one file at a time
#
# A file is written where its text has changed only, so that nothing is compiled again for nothing.
function(fusedrnn_instances cuda_folder out_folder sources)
  set(list ${cuda_folder}/../csrc/cells/list.hpp)
  file(READ ${list} text)
  string(REGEX MATCHALL "\n  X\\([a-z0-9_]+, [A-Za-z0-9]+\\)" lines "${text}")
  if(NOT lines)
    message(FATAL_ERROR "no line of ${list} begins like '  X(kind, Type)'")
  endif()
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^.*X\\((.*), (.*)\\)$" "\\1;\\2" pair "${line}")
    list(GET pair 0 kind)
    list(GET pair 1 type)
    foreach(folder recurrent recurrent/grid)
      configure_file(${cuda_folder}/${folder}/instance.cu.in ${out_folder}/${folder}/${kind}.cu @ONLY)
      list(APPEND made ${out_folder}/${folder}/${kind}.cu)
    endforeach()
  endforeach()
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
  endif()
  set(${sources} ${${sources}} ${made} PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  fusedrnn_instances(${CMAKE_CURRENT_LIST_DIR} ${OUT} made)
endif()
