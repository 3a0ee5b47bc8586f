#include "isa/plan_override.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "isa/detect.hpp"

namespace fusedrnn {
namespace {

constexpr int kMost = 256;  // groups along one axis: 8 bits hold them, and one word the whole plan

// Packed into one word so that it can be read without a lock: PlanKind above the three groups of a grid. kUnread until
// the environment has been looked at.
constexpr uint32_t kUnread = ~uint32_t{0};
std::atomic<uint32_t> forced{kUnread};
constexpr int kKindShift = 24;

bool parse(const std::string& text, uint32_t& packed) {
  int d = 1, r = 0, u = 0, end = 0;
  const int length = static_cast<int>(text.size());
  const bool any_layers = std::sscanf(text.c_str(), "cluster:%3dx%3d%n", &r, &u, &end) == 2 && end == length;
  const bool one_layer =
      !any_layers && std::sscanf(text.c_str(), "cluster:%3dx%3dx1%n", &r, &u, &end) == 2 && end == length;
  const bool cluster = any_layers || one_layer;
  const bool grid = std::sscanf(text.c_str(), "grid:%3dx%3d%n", &r, &u, &end) == 2 && end == length;
  const bool two = !grid && std::sscanf(text.c_str(), "%3dx%3d%n", &r, &u, &end) == 2 && end == length;
  const bool three = !two && std::sscanf(text.c_str(), "%3dx%3dx%3d%n", &d, &r, &u, &end) == 3 && end == length;
  if (text.empty()) {
    packed = 0;
    return true;
  }
  PlanKind kind{};
  if (plan_kind(text, kind) && kind != PlanKind::automatic) {
    packed = static_cast<uint32_t>(kind) << kKindShift;
    return true;
  }
  if (two || cluster || grid) d = any_layers ? 0 : 1;
  if (!(two || three || cluster || grid) || d < (any_layers ? 0 : 1) || r < 1 || u < 1 || d >= kMost || r >= kMost ||
      u >= kMost)
    return false;
  if ((cluster || grid) && r != 8 && r != 16 && r != 32) return false;
  if (cluster && u > 16) return false;
  packed = static_cast<uint32_t>(d << 16 | r << 8 | u);
  if (cluster) packed |= static_cast<uint32_t>(PlanKind::cluster) << kKindShift;
  if (grid) packed |= static_cast<uint32_t>(PlanKind::grid) << kKindShift;
  return true;
}

std::string must_be(const std::string& what, const std::string& was) {
  std::string names;
  for (const char* name : kPlanNames)
    if (name != std::string("auto")) names += std::string(name) + ", ";
  return what + " must be ROWSxUNITS or DIRECTIONSxROWSxUNITS, like 2x1, " + names +
         "cluster:ROWSxBLOCKS with 8, 16 or 32 rows and at most 16 blocks and, for one layer at a time, x1 behind it, "
         "or "
         "grid:ROWSxBLOCKS with 8, 16 or 32 rows, it is '" +
         was + "'";
}

}  // namespace

bool plan_kind(const std::string& name, PlanKind& kind) {
  int32_t value = 0;
  for (const char* known : kPlanNames) {
    if (name == known) {
      kind = static_cast<PlanKind>(value);
      return true;
    }
    ++value;
  }
  return false;
}

PlanOverride plan_override() {
  uint32_t packed = forced.load(std::memory_order_relaxed);
  if (packed == kUnread) {
    const char* text = std::getenv("FUSEDRNN_PLAN");
    const std::string wanted = text == nullptr ? "" : text;
    if (!parse(wanted, packed)) throw std::runtime_error(must_be("FUSEDRNN_PLAN", wanted));
    forced.store(packed, std::memory_order_relaxed);
  }
  return PlanOverride{static_cast<int32_t>(packed >> 16 & 0xFF), static_cast<int32_t>(packed >> 8 & 0xFF),
                      static_cast<int32_t>(packed & 0xFF), static_cast<PlanKind>(packed >> kKindShift)};
}

void force_plan(const std::string& text) {
  uint32_t packed = 0;
  if (!parse(text, packed)) throw std::invalid_argument(must_be("plan", text));
  forced.store(packed, std::memory_order_relaxed);
}

void offer_threads(SequenceDesc& desc, int32_t threads) {
  desc.threads = threads;
  desc.barrier_flops = barrier_flops();
  if (desc.plan_required) return;
  const PlanOverride forced = plan_override();
  desc.direction_groups = forced.direction_groups;
  desc.row_groups = forced.row_groups;
  desc.unit_groups = forced.unit_groups;
  desc.plan = forced.kind;
}

}  // namespace fusedrnn
