// From checked arguments to what kernels read.
#pragma once

#include "bindings/arrays/argument.hpp"

namespace fusedrnn {

// Rows of the last axis. ValueError where more leading axes than kMaxAxes are left after merging.
Strided rows_of(const Argument& argument);

// For kernels that look at elements only: a single row where there are no gaps.
Strided elements_of(const Argument& argument);

// Sizes without the last axis.
std::vector<int64_t> without_last(const std::vector<int64_t>& sizes);
std::vector<int64_t> leading(const Argument& argument);

std::string shape_text(const std::vector<int64_t>& sizes);
void require_shape(const Argument& argument, const std::vector<int64_t>& sizes);  // ValueError otherwise

// The elements of a Strided one after another, in C order.
template <class T>
class Elements {
 public:
  explicit Elements(const Strided& from) : from_(from) {}

  T next() {
    const T value = static_cast<const T*>(from_.data)[offset_ + column_];
    if (++column_ == from_.width) {
      column_ = 0;
      ++row_;
      offset_ = 0;
      int64_t rest = row_;
      for (int32_t axis = from_.axes - 1; axis >= 0; rest /= from_.size[axis--])
        offset_ += rest % from_.size[axis] * from_.stride[axis];
    }
    return value;
  }

 private:
  Strided from_;
  int64_t row_ = 0, column_ = 0, offset_ = 0;
};

}  // namespace fusedrnn
