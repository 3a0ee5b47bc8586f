// The table's entries for updates: which rule's kernel.
#include "entries.hpp"
#include "hw/failure.hpp"
#include "optim/launch.hpp"

namespace fusedrnn::cuda {
namespace {

Status launch(const UpdateTask& task, Stream stream) {
  switch (task.args.kind) {
#define FUSEDRNN_CASE(kind, Rule, header) \
  case OptimizerKind::kind:               \
    return launch_update<Rule>(task, stream);
    FUSEDRNN_RULES(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
  }
  return fail(Status::invalid_argument, "an update of kind %d, which is not in optim/list.hpp",
              static_cast<int>(task.args.kind));
}

}  // namespace

Status optimizer(const OptimizerArgs* a, Stream stream) {
  UpdateTask task = {};
  task.args = *a;
  return launch(task, stream);
}

Status clipped_update(const ClippedUpdateArgs* a, Stream stream) {
  UpdateTask task = {};
  task.squares.sums = a->norm ? a->partials : nullptr;
  task.max_norm = a->max_norm;
  task.norm = a->norm;
  task.skip_nonfinite = a->skip_nonfinite;
  task.fault = a->fault;
  const auto group = [&](int64_t i) -> const OptimizerArgs& { return a->group[i].update; };
  Status status = in_norm_order(a->groups, group, [&](int64_t i) {
    int64_t* const steps = a->group[i].steps;
    if (a->norm) return square_sums(group(i).dtype, group(i).segment, group(i).segments, steps, &task.squares, stream);
    return steps ? begin_step(steps, stream) : Status::ok;
  });
  for (int64_t i = 0; i < a->groups && status == Status::ok; ++i) {
    task.args = a->group[i].update;
    task.lr = a->group[i].lr;
    task.steps = a->group[i].steps;
    status = launch(task, stream);
  }
  return status;
}

}  // namespace fusedrnn::cuda
