// The precisions bf16, bf16x3 and bf16x6: every engine has the bits of one scalar emulation of their sum
// (tile_sum.hpp), whatever the operands are, and whole stacks have the bits of stored hashes.
//
// The hashes were made by this program over the engine of tile registers with emulated tiles (--print); no processor
// with the tile instruction has made them or been held to them yet.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "bf16_hashes.hpp"
#include "isa/amx.hpp"
#include "isa/detect.hpp"
#include "isa/registry.hpp"
#include "probe_tiles.hpp"
#include "probe_traps.hpp"
#include "probes.hpp"
#include "sequence_run.hpp"
#include "tile_sum.hpp"

namespace {

constexpr struct {
  Precision precision;
  int parts;
  const char* name;
} kSums[] = {{Precision::bf16, 1, "bf16"}, {Precision::bf16x3, 2, "bf16x3"}, {Precision::bf16x6, 3, "bf16x6"}};

const SequenceOps* by_trap = nullptr;  // the kernels of `amx`, where tiles trap

// The backends that this machine runs, the emulated tiles where it can, and behind all others the kernels of `amx` by
// trap where the processor lacks nothing but tiles.
std::vector<Backend> engines() {
  std::vector<Backend> found;
  for (const Backend* backend : available_backends()) found.push_back(*backend);
#if defined(FUSEDRNN_HAS_AVX512)
  if (cpu_has_avx512()) {
    Backend tiles = found.back();
    tiles.name = fusedrnn_tile_probe.name;
    tiles.status_text = fusedrnn_tile_probe.status_text;
    tiles.sequence = fusedrnn_tile_probe.sequence;
    tiles.dense = fusedrnn_tile_probe.dense;
    found.push_back(tiles);
  }
#if defined(FUSEDRNN_HAS_AMX)
  if (why_no_amx() != nullptr && cpu_has_avx512() && fusedrnn_tile_traps.install()) {
    found.push_back(amx_backend());
    by_trap = found.back().sequence;
    found.back().name = "amx, tiles by trap";
  }
#endif
#endif
  return found;
}

// ------------------------------------------------------------------------------------------------ products
enum class Kind { reals, wide, tiny, tiny_sums, cancelling, any, kinds };
constexpr const char* kKinds[] = {"reals", "wide", "tiny", "tiny sums", "cancelling", "any"};

float draw(Kind kind, Random& random) {
  switch (kind) {
    case Kind::reals:
      return static_cast<float>(random.uniform(-1, 1));
    case Kind::wide:
      return static_cast<float>(random.scaled(-40, 40));
    case Kind::tiny:  // denormal, and what the least normal numbers are
      return static_cast<float>(random.scaled(-149, -120));
    case Kind::tiny_sums:  // products about the least normal number
      return static_cast<float>(random.scaled(-66, -60));
    case Kind::cancelling:
      return static_cast<float>((random.below(2) * 2 - 1) * (1 + random.below(4) * 0x1p-8));
    default:  // NaN and infinities among them
      return random.below(40) == 0 ? tile_sum::float_of(static_cast<uint32_t>(random.bits()))
                                   : static_cast<float>(random.scaled(-126, 100));
  }
}

// Threads one after another.
void run_in_turn(Team*, int32_t n, void (*body)(void*, int32_t), void* context) {
  for (int32_t i = 0; i < n; ++i) body(context, i);
}

void one_product(const std::vector<Backend>& backends, GemmKind kind, int64_t M, int64_t N, int64_t K, bool accumulate,
                 Kind data, int sum, int32_t threads, Random& random) {
  const auto filled = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(std::max<int64_t>(count, 1)));
    for (float& value : values) value = draw(data, random);
    return values;
  };
  const bool a_turned = kind == GemmKind::tn, b_turned = kind == GemmKind::nt;
  const std::vector<float> a = filled(M * K), b = filled(N * K), before = filled(M * N);
  const auto at = [](const std::vector<float>& v, int64_t i) { return v[static_cast<size_t>(i)]; };
  const int parts = kSums[sum].parts;
  std::vector<float> must(before.size());
  for (int64_t i = 0; i < M; ++i)
    for (int64_t j = 0; j < N; ++j) {
      const float old = accumulate ? at(before, i * N + j) : 0.0f;
      const float total = tile_sum::product(
          a_turned ? old : 0.0f, K, parts, [&](int64_t k) { return at(a, a_turned ? k * M + i : i * K + k); },
          [&](int64_t k) { return at(b, b_turned ? j * K + k : k * N + j); });
      must[static_cast<size_t>(i * N + j)] = !a_turned && accumulate ? old + total : total;
    }
  for (const Backend& backend : backends) {
    std::vector<float> c = before;
    if (!accumulate) std::fill(c.begin(), c.end(), NAN);
    GemmArgs args{};
    args.kind = kind;
    args.precision = kSums[sum].precision;
    args.accumulate = accumulate;
    args.M = M, args.N = N, args.K = K;
    args.a = a.data(), args.b = b.data(), args.c = c.data();
    args.lda = a_turned ? M : K, args.ldb = b_turned ? K : N, args.ldc = N;
    Team team{threads, run_in_turn, nullptr};
    std::vector<char> workspace(backend.dense->gemm_workspace(&args, threads) + 64, '\xff');
    void* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
    const Status status = backend.dense->gemm(&args, aligned, &team);
    check::require(status == Status::ok, "%s: gemm: %s", backend.name, backend.status_text());
    size_t wrong = 0;
    while (wrong < must.size() && (M * N == 0 || same_bits(c[wrong], must[wrong]))) ++wrong;
    check::require(wrong == must.size(), "%s %s %s: kind %d, %d x %d x %d, accumulate %d: [%d] is %a, must be %a",
                   backend.name, kSums[sum].name, kKinds[int(data)], int(kind), int(M), int(N), int(K), accumulate,
                   int(wrong), double(c[wrong % c.size()]), double(must[wrong % c.size()]));
  }
}

void products(const std::vector<Backend>& backends) {
  Random random(5);
  std::vector<Backend> quick = backends;  // a trap takes a microsecond: fewer products go that way
  if (quick.back().sequence == by_trap) quick.pop_back();
  for (int sum = 0; sum < 3; ++sum)
    for (const GemmKind kind : {GemmKind::nt, GemmKind::nn, GemmKind::tn})
      for (int data = 0; data < int(Kind::kinds); ++data) {
        for (int trial = 0; trial < 12; ++trial)
          one_product(trial % 4 ? quick : backends, kind, random.below(50), random.below(80),
                      random.below(trial % 3 ? 70 : 400), random.below(2) == 1, Kind(data), sum,
                      static_cast<int32_t>(1 + random.below(3)), random);
        for (const int64_t rows : {1, 5, 15, 16, 17, 20, 32, 33, 40, 50})
          one_product(backends, kind, rows, 64, 33, data % 2 == 1, Kind(data), sum, 1, random);
      }
  // More than an engine's block of a weight gradient; weights beyond a thread's own cache.
  one_product(backends, GemmKind::tn, 20, 40, 1100, true, Kind::reals, 0, 1, random);
  one_product(backends, GemmKind::nt, 61, 70, 4001, false, Kind::reals, 0, 1, random);
  one_product(backends, GemmKind::nn, 9, 70, 2001, false, Kind::reals, 2, 1, random);
}

// ------------------------------------------------------------------------------------------------- stacks
// T B I H layers directions; rows and columns that tiles of 16 and 32 cut off at every place, then options.
struct Stack {
  Problem problem;
  bool lengths;
};
constexpr Stack kStacks[kStackCount] = {
    {{1, 1, 1, 1, 1, 1}, false},    {{3, 2, 5, 7, 1, 1}, false},    {{4, 5, 16, 16, 1, 1}, false},
    {{2, 15, 31, 15, 1, 1}, false}, {{3, 16, 32, 32, 1, 1}, false}, {{2, 17, 33, 17, 1, 1}, false},
    {{5, 1, 33, 48, 1, 1}, false},  {{9, 1, 64, 70, 1, 1}, false},  {{4, 20, 50, 70, 1, 1}, false},
    {{2, 31, 20, 33, 1, 1}, false}, {{2, 32, 40, 40, 1, 1}, false}, {{2, 33, 24, 47, 1, 1}, false},
    {{3, 40, 33, 50, 1, 1}, false}, {{2, 48, 17, 31, 1, 1}, false}, {{2, 50, 40, 100, 1, 1}, false},
    {{2, 64, 64, 64, 1, 1}, false}, {{3, 16, 64, 96, 1, 1}, false}, {{40, 8, 3, 9, 1, 1}, false},
    {{70, 4, 5, 16, 1, 1}, false},  {{12, 3, 5, 7, 2, 1}, false},   {{3, 18, 9, 20, 2, 2}, false},
    {{4, 16, 16, 16, 3, 1}, false}, {{5, 7, 11, 19, 1, 2}, false},  {{9, 5, 40, 72, 1, 1}, true},
    {{6, 40, 33, 50, 1, 1}, true},  {{3, 17, 31, 65, 1, 2}, true},  {{5, 20, 12, 33, 2, 1}, true},
    {{8, 3, 4, 5, 2, 2}, true},     {{30, 9, 7, 21, 1, 1}, true},   {{2, 33, 32, 64, 1, 1}, true},
};

void stacks(const std::vector<Backend>& backends, bool print) {
  int at = 0;
  for (int sum = 0; sum < 3; ++sum)
    for (const Stack& stack : kStacks) {
      for (const Backend& backend : backends) {
        if (print && &backend != &backends.back()) continue;
        Hash hash;
        for (const CellTraits& cell : kCells) {
          if (!cell.on_cuda) continue;  // the hashes are of the cells that GPUs have too: another changes none
          for (const float value :
               Run<float>(backend, cell, stack.problem, stack.lengths, Data::reals, kSums[sum].precision)
                   .results(kAlone))
            hash.add(value);
        }
        if (print)
          std::printf("    0x%016llxu,\n", static_cast<unsigned long long>(hash.value()));
        else
          check::require(hash.value() == kBf16Hashes[at], "%s %s: stack %d has other bits than what is stored",
                         backend.name, kSums[sum].name, at % kStackCount);
      }
      ++at;
    }
}

// Tiles are a thread's own: the same bits where several share a stack.
void shared_stacks(const std::vector<Backend>& backends) {
  constexpr Problem problem{3, 18, 9, 70, 1, 2};
  set_num_threads(4);
  {
    TeamLease lease;
    lease.team()->parallel(lease.team(), lease.size(), [](void*, int32_t) { fusedrnn_tile_traps.admit(); }, nullptr);
  }
  for (int sum = 0; sum < 3; ++sum)
    for (const CellKind kind : {CellKind::lstm, CellKind::gru}) {
      std::vector<float> first;
      for (const Backend& backend : backends) {
        Run<float> run(backend, traits(kind), problem, true, Data::reals, kSums[sum].precision);
        for (const Grid& grid : {kAlone, Grid{4, 1, 2, 2}, Grid{2, 2, 1, 1}, Grid{3, 1, 1, 3}}) {
          const std::vector<float> results = run.results(grid);
          if (first.empty()) first = results;
          check::require(std::memcmp(results.data(), first.data(), first.size() * sizeof(float)) == 0,
                         "%s %s: the bits of %d x %d x %d threads", backend.name, kSums[sum].name, grid.directions,
                         grid.rows, grid.units);
        }
      }
    }
}

#if defined(FUSEDRNN_HAS_AMX)
// Threads share out units, so that each keeps its part of the recurrent weights in a cache of its own, but where all of
// them fit one beside whole tiles of rows, or so many rows pass that it does not matter.
void plans() {
  if (!cpu_has_avx512()) return;
  const auto plan = [](Precision precision, int64_t B, int64_t H) {
    SequenceDesc desc{};
    desc.cell = CellKind::lstm;
    desc.precision = precision;
    desc.layers = desc.directions = 1;
    desc.threads = 2;
    desc.barrier_flops = barrier_flops();
    desc.T = 64, desc.B = B, desc.I = desc.H = H;
    Plan found;
    check::require(amx_backend().sequence->plan(&desc, &found) == Status::ok, "a plan");
    return 10 * found.row_groups + found.unit_groups;
  };
  check::require(plan(Precision::ieee, 64, 512) == 21, "ieee has the plan of avx512");
  check::require(plan(Precision::bf16, 64, 512) == 12, "2 MiB of weights: units");
  check::require(plan(Precision::bf16, 384, 512) == 21, "many rows");
  check::require(plan(Precision::bf16, 32, 256) == 21, "512 KiB of weights and a tile of rows for each: rows");
  check::require(plan(Precision::bf16x6, 32, 256) == 12, "1.5 MiB in three parts: units");
  check::require(plan(Precision::bf16, 16, 256) == 12, "half a tile of rows for each: units");
}
#endif

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Backend> backends = engines();
  if (argc > 1 && !std::strcmp(argv[1], "--print")) {
    stacks(backends, true);
    return 0;
  }
  products(backends);
  stacks(backends, false);
  shared_stacks(backends);
#if defined(FUSEDRNN_HAS_AMX)
  plans();
#endif
#if defined(FUSEDRNN_HAS_AVX512)
  check::require(fusedrnn_tile_probe.misuses() == 0, "%d misuses of tiles", fusedrnn_tile_probe.misuses());
  check::require(fusedrnn_tile_traps.misuses() == 0, "%d misuses of trapped tiles", fusedrnn_tile_traps.misuses());
  check::require(fusedrnn_tile_traps.unreleased() == 0, "%d threads keep tiles", fusedrnn_tile_traps.unreleased());
  std::printf("tile instructions by trap: %ld\n", fusedrnn_tile_traps.trapped());
#endif
  return check::finish("test_bf16");
}
