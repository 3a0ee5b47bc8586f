// Values that a call's result depends on in other ways than by arithmetic: indices, classes, lengths. Arrays of a
// device are looked at there, and the answer is waited for.
#pragma once

#include "bindings/arrays/argument.hpp"

namespace fusedrnn {

// The first value of `name` that is wrong, all zeros where there is none. `args` as backend.hpp says, but for `what`
// and `fault`. RuntimeError where the stream is being captured.
Fault first_wrong(const char* name, const CheckArgs& args, const Backend* device);

// ValueErrors that say what was wrong with ids, say, lengths and classes.
[[noreturn]] void bad_element(const char* name, int64_t limit, const Fault& fault);
[[noreturn]] void bad_length(int64_t T, const Fault& fault);
[[noreturn]] void bad_class(int64_t classes, const Fault& fault);

// ValueError unless each of the integers is in [0, limit); says which is not.
void require_below(const char* name, const Strided& elements, int64_t limit, const Backend* device = nullptr);

// ValueError unless each of the B lengths is in [0, T]; says which is not.
void require_lengths(const int64_t* lengths, int64_t T, int64_t B, const Backend* device = nullptr);

// ValueError unless every class that counts exists.
void require_classes(const LossArgs& a, const Backend* device = nullptr);

}  // namespace fusedrnn
