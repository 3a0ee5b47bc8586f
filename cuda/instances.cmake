# Instances of CUDA's kernels: a file each for what a list of csrc names, made from a template in which a row's fields stand
# between @.
#
#   fusedrnn_instances(cuda_folder out_folder variable)   writes them below out_folder, appends their paths to the variable
#   cmake -D OUT=FOLDER -P cuda/instances.cmake           the same without a build, for what compiles one file at a time
#
# A file is written where its text has changed only, so that nothing is compiled again for nothing.

# One file for every row `  <row>(<fields>)` of the list, cells of the CPU alone left out; rows that name the same file make it once. Their paths are the
# list `instance_files` of the caller.
function(fusedrnn_instances_of list row fields template file out_folder)
  file(READ ${list} text)
  string(REGEX REPLACE "\n#define FUSEDRNN_HOST.*" "" text "${text}")
  string(REGEX MATCHALL "\n  ${row}\\([A-Za-z0-9_, ]+\\)" lines "${text}")
  if(NOT lines)
    message(FATAL_ERROR "no line of ${list} begins like '  ${row}(${fields})'")
  endif()
  set(instance_files)
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^.*\\((.*)\\)$" "\\1" values "${line}")
    string(REPLACE ", " ";" values "${values}")
    foreach(field value IN ZIP_LISTS fields values)
      set(${field} ${value})
    endforeach()
    string(CONFIGURE "${out_folder}/${file}" path @ONLY)
    configure_file(${template} ${path} @ONLY)
    list(APPEND instance_files ${path})
  endforeach()
  list(REMOVE_DUPLICATES instance_files)
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
  endif()
  set(instance_files ${instance_files} PARENT_SCOPE)
endfunction()

# Locals have names that no caller's variable has: a caller's is read by its name here.
function(fusedrnn_instances cuda_folder out_folder instance_variable)
  set(csrc ${cuda_folder}/../csrc)
  set(all_instances)
  foreach(folder recurrent recurrent/grid)
    fusedrnn_instances_of(${csrc}/cells/list.hpp X "kind;type" ${cuda_folder}/${folder}/instance.cu.in
                          "${folder}/@kind@.cu" ${out_folder})
    list(APPEND all_instances ${instance_files})
  endforeach()
  fusedrnn_instances_of(${csrc}/optim/list.hpp X "kind;Type;header" ${cuda_folder}/optim/instance.cu.in
                        "optim/@header@.cu" ${out_folder})
  list(APPEND all_instances ${instance_files})
  fusedrnn_instances_of(${csrc}/losses/list.hpp ELEMENT "kind;Type;header;weights;threshold" ${cuda_folder}/losses/instance.cu.in
                        "losses/@header@.cu" ${out_folder})
  list(APPEND all_instances ${instance_files})
  set(${instance_variable} ${${instance_variable}} ${all_instances} PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  fusedrnn_instances(${CMAKE_CURRENT_LIST_DIR} ${OUT} files)
endif()
