#include "bindings/arrays/strided.hpp"

namespace fusedrnn {

Strided rows_of(const Argument& argument) {
  Strided s = {};
  if (!argument.present()) return s;
  const int64_t rank = argument.rank();
  s.data = argument.data();
  s.rows = 1;
  s.width = rank > 0 ? argument.size(rank - 1) : 1;
  for (int64_t axis = 0; axis + 1 < rank; ++axis) {
    const int64_t size = argument.size(axis), stride = argument.stride(axis);
    s.rows *= size;
    if (size == 1) continue;
    const int32_t last = s.axes - 1;
    if (last >= 0 && s.stride[last] == size * stride) {
      s.size[last] *= size;
      s.stride[last] = stride;
    } else if (s.axes == kMaxAxes) {
      bad_value(argument.name(), "an array whose leading axes merge into " + std::to_string(kMaxAxes),
                "strided along more: use np.ascontiguousarray(" + argument.name() + ")");
    } else {
      s.size[s.axes] = size;
      s.stride[s.axes++] = stride;
    }
  }
  return s;
}

Strided elements_of(const Argument& argument) {
  Strided s = rows_of(argument);
  if (s.axes == 0 || (s.axes == 1 && s.stride[0] == s.width)) {
    s.width *= s.rows;
    s.rows = s.width > 0 ? 1 : 0;
    s.axes = 0;
  }
  return s;
}

std::vector<int64_t> without_last(const std::vector<int64_t>& sizes) { return {sizes.begin(), sizes.end() - 1}; }

std::vector<int64_t> leading(const Argument& argument) { return without_last(argument.sizes()); }

std::string shape_text(const std::vector<int64_t>& sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + (sizes.size() == 1 ? ",)" : ")");
}

void require_shape(const Argument& argument, const std::vector<int64_t>& sizes) {
  if (argument.sizes() != sizes)
    bad_value(argument.name(), "of shape " + shape_text(sizes), shape_text(argument.sizes()));
}

}  // namespace fusedrnn
