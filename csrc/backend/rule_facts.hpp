// The facts of update rules (optim/list.hpp) as data, for code that knows a rule's kind at run time, Python included.
#pragma once

#include "backend/optim.hpp"

namespace fusedrnn {

enum class Range : int32_t {
  non_negative,  // finite and >= 0
  below_one,     // in [0, 1)
  flag,          // 0 or 1
};

constexpr const char* text_of(Range range) {
  switch (range) {
    case Range::non_negative:
      return "finite and >= 0";
    case Range::below_one:
      return "in [0, 1)";
    case Range::flag:
      return "True or False";
  }
  return nullptr;
}

struct ScalarFacts {
  const char* name;
  double otherwise;  // the default
  Range range;
};

struct StateFacts {
  const char* name;
  const char* kept_by;  // the scalar that is 0 where the state is absent; nullptr: always there
};

struct RuleFacts {
  OptimizerKind kind;
  const char* name;
  ScalarFacts scalar[kMaxScalars];
  StateFacts state[kMaxStates];
  int32_t scalars, states;
};

#define FUSEDRNN_NOTHING(...)
#define FUSEDRNN_ONE(...) +1
#define FUSEDRNN_SCALAR(name, otherwise, range) {#name, otherwise, Range::range},
#define FUSEDRNN_STATE(name, by) {#name, Scalars::by < 0 ? nullptr : #by},
#define FUSEDRNN_FACTS(kind, Type, header)                                      \
  [] {                                                                          \
    using Scalars = kind##_scalars;                                             \
    return RuleFacts{OptimizerKind::kind,                                       \
                     #kind,                                                     \
                     {FUSEDRNN_RULE_##kind(FUSEDRNN_SCALAR, FUSEDRNN_NOTHING)}, \
                     {FUSEDRNN_RULE_##kind(FUSEDRNN_NOTHING, FUSEDRNN_STATE)},  \
                     FUSEDRNN_RULE_##kind(FUSEDRNN_ONE, FUSEDRNN_NOTHING),      \
                     FUSEDRNN_RULE_##kind(FUSEDRNN_NOTHING, FUSEDRNN_ONE)};     \
  }(),
inline constexpr RuleFacts kRules[] = {FUSEDRNN_RULES(FUSEDRNN_FACTS)};
#undef FUSEDRNN_FACTS
#undef FUSEDRNN_STATE
#undef FUSEDRNN_SCALAR
#undef FUSEDRNN_ONE
#undef FUSEDRNN_NOTHING

// Of a kind that the list has.
constexpr const RuleFacts& facts_of(OptimizerKind kind) { return kRules[static_cast<int32_t>(kind)]; }

}  // namespace fusedrnn
