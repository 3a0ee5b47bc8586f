// What threads, memory and plugins ask of the operating system; a file for each: os_linux.cpp, os_darwin.cpp,
// os_windows.cpp, and os_posix.cpp for what the first two have in common. What the machine offers is in cpu.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fusedrnn {

// Sleeps until woken while the word is `expected`; may return at any time.
void os_sleep(uint32_t* word, uint32_t expected);
void os_wake_all(uint32_t* word);

// A thread that the team never joins, and that signals of the program do not reach. Says whether the system grants it.
// What run(argument) returns is not used; the name has at most 15 characters.
bool os_start_thread(void* (*run)(void*), void* argument, const char* name);

// Calls around every fork of the process, in the parent before and after, and in the child; nothing where there is
// none.
void os_at_fork(void (*before)(), void (*parent)(), void (*child)());

// For some microseconds.
void os_nap();

// A multiple of the alignment, a power of two, in bytes; nullptr where there is no memory. Large pages are asked for
// where `huge` says so, and not missed where there are none.
void* os_allocate(size_t alignment, size_t bytes, bool huge);
void os_free(void* memory);

// A variable of the environment; nullptr where there is none, or where the program has more rights than its caller.
const char* os_trusted_environment(const char* name);

// A library's file by the address of a function in it; empty where that is unknown.
std::string os_file_of(void (*function)());
// Opens a library and keeps it open until the process ends; nullptr and why where that fails.
void* os_open_library(const std::string& path, std::string* why);
void* os_symbol(void* library, const char* name);

}  // namespace fusedrnn
