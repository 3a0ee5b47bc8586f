// The recurrent kernels on threads: every cell, every instruction set, schedules that split directions, rows and units,
// forward and backward. The bits must not depend on the grid of threads; under ThreadSanitizer nothing
// may race, under AddressSanitizer nothing may be touched outside of its block. The same kernels over another engine
// (engine_blocked.hpp) must give the same bits too.
#include "isa/registry.hpp"
#include "probe_engine.hpp"
#include "sequence_run.hpp"

namespace {

constexpr Problem kProblems[] = {
    {7, 41, 5, 33, 1, 2},  // many rows
    {6, 5, 9, 150, 2, 1},  // many units
    {5, 1, 3, 200, 1, 1},  // one row
    {4, 3, 2, 5, 2, 2},    // fewer rows and units than threads
};

constexpr Grid kGrids[] = {{3, 0, 0, 0}, {3, 1, 3, 1}, {3, 1, 1, 3}, {4, 1, 2, 2}, {2, 2, 1, 1}, {4, 2, 1, 2}};

template <class T>
void check_cell(const Backend& backend, const CellTraits& cell, Precision precision = Precision::ieee) {
  for (const Problem& problem : kProblems) {
    for (const bool lengths : {false, true}) {
      Run<T> run(backend, cell, problem, lengths, Data::reals, precision);
      const std::vector<T> alone = run.results(kAlone);
      bool finite = true;
      for (const T value : alone) finite = finite && value - value == 0;
      check::require(finite, "%s %s: finite results", backend.name, cell.name);
      for (const Grid& grid : kGrids) {
        const std::vector<T> together = run.results(grid);
        check::require(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(T)) == 0,
                       "%s %s %s T=%d B=%d H=%d: the bits of %d threads as %d x %d x %d", backend.name, cell.name,
                       sizeof(T) == 4 ? "float32" : "float64", int(problem.T), int(problem.B), int(problem.H),
                       grid.threads, grid.directions, grid.rows, grid.units);
      }
      if (precision != Precision::ieee) continue;
      const Backend blocked = over_blocked_engine(backend);
      Run<T> other(blocked, cell, problem, lengths);
      for (const Grid& grid : {kAlone, kGrids[0], kGrids[3]}) {
        const std::vector<T> same = other.results(grid);
        check::require(std::memcmp(alone.data(), same.data(), alone.size() * sizeof(T)) == 0,
                       "%s %s %s T=%d B=%d H=%d: the bits of %s on %d threads", backend.name, cell.name,
                       sizeof(T) == 4 ? "float32" : "float64", int(problem.T), int(problem.B), int(problem.H),
                       blocked.name, grid.threads);
      }
    }
  }
}

// Operands of another type than what is stored: where neither rounds, nothing differs.
void check_operands(const Backend& backend) {
  const Backend rounded = over_blocked_engine(backend, true);
  for (const Problem& problem : kProblems)
    for (const bool lengths : {false, true}) {
      Run<double> exact(backend, traits(CellKind::rnn_relu), problem, lengths, Data::integers),
          run(rounded, traits(CellKind::rnn_relu), problem, lengths, Data::integers);
      const std::vector<double> must = exact.results(kAlone);
      for (const Grid& grid : {kAlone, kGrids[0], kGrids[3]}) {
        const std::vector<double> got = run.results(grid);
        for (size_t i = 0; i < must.size(); ++i)
          check::require(got[i] == must[i], "%s rnn_relu T=%d B=%d H=%d on %d threads: result %zu is %a, must be %a",
                         rounded.name, int(problem.T), int(problem.B), int(problem.H), grid.threads, i, got[i],
                         must[i]);
      }
    }
}

}  // namespace

int main() {
  for (const Backend* backend : available_backends()) {
    for (const CellTraits& cell : kCells) {
      check_cell<float>(*backend, cell);
      check_cell<double>(*backend, cell);
      check_cell<float>(*backend, cell, Precision::bf16);
      check_cell<float>(*backend, cell, Precision::bf16x6);
    }
    check_operands(*backend);
    check::require(engine_probe(*backend).sums_outside_regions() == 0, "%s: products outside of a Region",
                   backend->name);
  }
  return check::finish("test_sequence");
}
