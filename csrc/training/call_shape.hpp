// The shape of a call of a training step: what calls with the same types, shapes and strides have in common.
#pragma once

#include "training/view.hpp"

namespace fusedrnn::training {

// Its input, and its loss but for what is different at every call. Pointers are not looked at.
struct CallShape {
  View x;
  LossArgs loss = {};
  bool lengths = false, resets = false;
};

}  // namespace fusedrnn::training
