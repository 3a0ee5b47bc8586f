// The facts of losses (losses/list.hpp) as data, for code that knows a loss's kind at run time, Python included.
#pragma once

#include "backend/losses.hpp"

namespace fusedrnn {

enum class TargetType : int32_t { numbers, index };

struct LossFacts {
  LossKind kind;
  const char* name;   // of the function in Python, which several kinds may share
  bool by_rows;       // entries are rows of classes, not elements
  TargetType target;  // numbers: like pred; index: one int64 for each row
  // What callers call these options, nullptr where the loss has none.
  const char *weights, *threshold, *smoothing;
};

#define FUSEDRNN_ELEMENT(kind, Type, header, weights, threshold) \
  {LossKind::kind, #kind, false, TargetType::numbers, option_named(#weights), option_named(#threshold), nullptr},
#define FUSEDRNN_ROW(kind, function, target, weights, smoothing) \
  {LossKind::kind, #function, true, TargetType::target, option_named(#weights), nullptr, option_named(#smoothing)},
inline constexpr LossFacts kLosses[] = {FUSEDRNN_LOSSES(FUSEDRNN_ELEMENT, FUSEDRNN_ROW)};
#undef FUSEDRNN_ROW
#undef FUSEDRNN_ELEMENT

constexpr bool is_loss(LossKind kind) {
  const auto i = static_cast<int32_t>(kind);
  return i >= 0 && i < static_cast<int32_t>(sizeof kLosses / sizeof *kLosses);
}

// Of a kind that is_loss.
constexpr const LossFacts& facts_of(LossKind kind) { return kLosses[static_cast<int32_t>(kind)]; }
constexpr bool has_class_targets(LossKind kind) { return facts_of(kind).target == TargetType::index; }

}  // namespace fusedrnn
