// The register tile alone, and the `gemm` and `column_sum` entries of every backend: exact on integers, the promised
// order of sums to the last bit, every remainder of rows, columns and k, nothing touched outside the operands. The
// entries over another engine too (engine_blocked.hpp), and with operands that are rounded.
#include <cmath>
#include <memory>

#include "backend/backend.hpp"
#include "check.hpp"
#include "guarded.hpp"
#include "isa/detect.hpp"
#include "isa/registry.hpp"
#include "probe_engine.hpp"
#include "probe_gemm.hpp"
#include "probes.hpp"
#include "random.hpp"

namespace {

using check::require;
using fusedrnn::Backend;
using fusedrnn::DType;
using fusedrnn::GemmArgs;
using fusedrnn::GemmKind;
using fusedrnn::Status;
using fusedrnn::Team;

constexpr int64_t kChunk = 256, kPlainRows = 32;  // constants of promises, written down a second time on purpose
constexpr int64_t kDepths[] = {0, 1, 2, 3, 17, 64, 255, 256, 257, 511, 512, 513, 700};

enum class Data { integers, reals };

template <class T>
void fill(T* first, T* last, Data data, Random& random) {
  for (; first != last; ++first)
    *first = static_cast<T>(data == Data::integers ? static_cast<double>(random.below(17) - 8) : random.uniform(-1, 1));
}

// The promise: k in chunks of 256, in each one an ordered chain of fused multiply-adds, chunks added in order. `start`
// is what the first chunk is added to, if there is something.
template <class T, class A, class B>
T promised_sum(int64_t K, const A& a, const B& b, const T* start = nullptr) {
  T total = start ? *start : T(0);
  int64_t k = 0;
  do {
    T chunk = 0;
    const int64_t first = k;
    for (; k < K && k < first + kChunk; ++k) chunk = std::fma(a(k), b(k), chunk);
    total = first == 0 && !start ? chunk : total + chunk;
  } while (k < K);
  return total;
}

// The sum in plain integers, which both orders and all roundings must give when the data are small integers.
template <class T, class A, class B>
T integer_sum(int64_t K, const A& a, const B& b) {
  int64_t total = 0;
  for (int64_t k = 0; k < K; ++k) total += static_cast<int64_t>(a(k)) * static_cast<int64_t>(b(k));
  return static_cast<T>(total);
}

// -------------------------------------------------------------------------------------------------- the tile
std::vector<const GemmProbe*> gemm_probes() {
  std::vector<const GemmProbe*> found;
#if defined(FUSEDRNN_HAS_SCALAR)
  found.push_back(&fusedrnn_gemm_probe_scalar);
#endif
#if defined(FUSEDRNN_HAS_AVX2)
  if (fusedrnn::cpu_has_avx2()) found.push_back(&fusedrnn_gemm_probe_avx2);
#endif
#if defined(FUSEDRNN_HAS_AVX512)
  if (fusedrnn::cpu_has_avx512()) found.push_back(&fusedrnn_gemm_probe_avx512);
#endif
#if defined(FUSEDRNN_HAS_NEON)
  found.push_back(&fusedrnn_gemm_probe_neon);
#endif
  return found;
}

int lanes(const GemmProbe& probe, float) { return probe.lanes32; }
int lanes(const GemmProbe& probe, double) { return probe.lanes64; }

void run_tile(const GemmProbe& p, int panel, int rows, int vectors, int64_t K, const float* const* a, const float* b,
              float* tile, bool ahead) {
  p.tile32(panel, rows, vectors, K, a, b, tile, ahead);
}
void run_tile(const GemmProbe& p, int panel, int rows, int vectors, int64_t K, const double* const* a, const double* b,
              double* tile, bool ahead) {
  p.tile64(panel, rows, vectors, K, a, b, tile, ahead);
}

// Rows in memory of their own, of exactly K elements; with three or more rows the last is the first
// again, as rows of zeros and shared states are.
template <class T>
void one_tile(const GemmProbe& probe, int panel, int rows, int vectors, int64_t K, Data data, Random& random) {
  const int width = vectors * lanes(probe, T());
  std::vector<std::unique_ptr<Guarded<T>>> memory;
  std::vector<const T*> a;
  for (int r = 0; r < rows; ++r) {
    if (r > 1 && r == rows - 1) {
      a.push_back(a[0]);
      continue;
    }
    memory.push_back(std::make_unique<Guarded<T>>(static_cast<size_t>(K), r % 2 ? Guard::before : Guard::after));
    fill(memory.back()->begin(), memory.back()->end(), data, random);
    a.push_back(memory.back()->data());
  }
  Guarded<T> b(static_cast<size_t>(K * width), Guard::after), tile(static_cast<size_t>(rows * width), Guard::after);
  fill(b.begin(), b.end(), data, random);
  for (const bool ahead : {false, true}) {
    for (T& v : tile) v = T(__builtin_nan(""));
    run_tile(probe, panel, rows, vectors, K, a.data(), b.data(), tile.data(), ahead);
    for (int r = 0; r < rows; ++r)
      for (int n = 0; n < width; ++n) {
        const auto left = [&](int64_t k) { return a[r][k]; };
        const auto right = [&](int64_t k) { return b[static_cast<size_t>(k * width + n)]; };
        const T got = tile[static_cast<size_t>(r * width + n)];
        const T must = data == Data::integers ? integer_sum<T>(K, left, right) : promised_sum<T>(K, left, right);
        require(got == must, "%s: tile %d of %d x %d, K = %d, ahead = %d: [%d][%d] is %a, must be %a", probe.isa, panel,
                rows, vectors, static_cast<int>(K), ahead, r, n, double(got), double(must));
      }
  }
}

template <class T>
void tiles() {
  Random random(17);
  for (const GemmProbe* probe : gemm_probes())
    for (int panel = 1; panel <= 4; ++panel)
      for (int vectors = 1; vectors <= panel; ++vectors)
        for (int rows = 1; rows <= probe->tile_rows(panel); ++rows)
          for (int64_t K :
               {kDepths[static_cast<size_t>(random.below(13))], kDepths[static_cast<size_t>(random.below(13))]}) {
            one_tile<T>(*probe, panel, rows, vectors, K, Data::integers, random);
            one_tile<T>(*probe, panel, rows, vectors, K, Data::reals, random);
          }
  for (const GemmProbe* probe : gemm_probes())  // every depth
    for (int64_t K : kDepths) {
      one_tile<T>(*probe, 4, probe->tile_rows(4), 4, K, Data::integers, random);
      one_tile<T>(*probe, 4, probe->tile_rows(4), 4, K, Data::reals, random);
    }
}

// --------------------------------------------------------------------------------------------------- the table
// A team whose threads run one after another: what is shared out is the same as with real ones.
void run_in_turn(Team*, int32_t n, void (*body)(void*, int32_t), void* context) {
  for (int32_t i = 0; i < n; ++i) body(context, i);
}
void no_barrier(Team*, fusedrnn::Barrier*, int32_t) {
  std::fputs("FAILED: a barrier in gemm\n", stderr);
  std::exit(1);
}

template <class T>
constexpr DType kDType = sizeof(T) == 4 ? DType::float32 : DType::float64;

// A matrix with a leading dimension, ending at a guard; what lies between its rows holds a mark.
template <class T>
struct Matrix {
  static constexpr T kMark = 12345;
  int64_t rows, columns, ld;
  Guarded<T> memory;

  Matrix(int64_t rows_, int64_t columns_, int64_t gap)
      : rows(rows_),
        columns(columns_),
        ld(columns_ + gap),
        memory(static_cast<size_t>(rows_ == 0 || columns_ == 0 ? 0 : (rows_ - 1) * ld + columns_), Guard::after) {
    for (T& v : memory) v = kMark;
  }
  T& at(int64_t i, int64_t j) { return memory[static_cast<size_t>(i * ld + j)]; }
  void random(Data data, Random& source) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) fill(&at(i, j), &at(i, j) + 1, data, source);
  }
  void poison() {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) at(i, j) = T(__builtin_nan(""));
  }
  bool gaps_kept() {
    for (int64_t i = 0; columns > 0 && i + 1 < rows; ++i)
      for (int64_t j = columns; j < ld; ++j)
        if (at(i, j) != kMark) return false;
    return true;
  }
};

struct Problem {
  GemmKind kind;
  int64_t M, N, K;
  bool accumulate, bias;
  int32_t threads;
};

// With `rounded` the backend takes operands as floats, whatever T is.
template <class T>
void one_product(const Backend& backend, const Problem& p, Data data, Random& random, bool rounded = false) {
  const bool a_transposed = p.kind == GemmKind::tn, b_transposed = p.kind == GemmKind::nt;
  Matrix<T> a(a_transposed ? p.K : p.M, a_transposed ? p.M : p.K, random.below(3));
  Matrix<T> b(b_transposed ? p.N : p.K, b_transposed ? p.K : p.N, random.below(3));
  Matrix<T> c(p.M, p.N, random.below(3)), bias(1, p.N, 0);
  a.random(data, random);
  b.random(data, random);
  bias.random(data, random);
  if (p.accumulate)
    c.random(data, random);
  else
    c.poison();
  std::vector<T> before;
  for (int64_t i = 0; i < p.M; ++i)
    for (int64_t j = 0; j < p.N; ++j) before.push_back(c.at(i, j));

  GemmArgs args{};
  args.kind = p.kind;
  args.dtype = kDType<T>;
  args.accumulate = p.accumulate;
  args.M = p.M;
  args.N = p.N;
  args.K = p.K;
  args.a = a.memory.data();
  args.b = b.memory.data();
  args.bias = p.bias ? bias.memory.data() : nullptr;
  args.c = c.memory.data();
  args.lda = a.ld;
  args.ldb = b.ld;
  args.ldc = c.ld;
  Team team{p.threads, run_in_turn, no_barrier};
  Guarded<char> workspace(backend.dense->gemm_workspace(&args, p.threads), Guard::after);
  std::memset(workspace.data(), 0xff, workspace.size());  // NaN
  const Status status = backend.dense->gemm(&args, workspace.data(), &team);

  static const char* const kinds[] = {"nt", "nn", "tn"};
  const auto describe = [&](int64_t i, int64_t j, T got, T must) {
    require(got == must, "%s: %s M=%d N=%d K=%d accumulate=%d bias=%d threads=%d: [%d][%d] is %a, must be %a",
            backend.name, kinds[static_cast<int>(p.kind)], static_cast<int>(p.M), static_cast<int>(p.N),
            static_cast<int>(p.K), p.accumulate, p.bias, p.threads, static_cast<int>(i), static_cast<int>(j),
            double(got), double(must));
  };
  require(status == Status::ok, "%s: gemm returned %d", backend.name, static_cast<int>(status));
  require(c.gaps_kept(), "%s: elements between the rows of C changed", backend.name);
  for (int64_t i = 0; i < p.M; ++i)
    for (int64_t j = 0; j < p.N; ++j) {
      const auto operand = [&](T value) { return rounded ? static_cast<T>(static_cast<float>(value)) : value; };
      const auto left = [&](int64_t k) { return operand(a_transposed ? a.at(k, i) : a.at(i, k)); };
      const auto right = [&](int64_t k) { return operand(b_transposed ? b.at(j, k) : b.at(k, j)); };
      const T old = before[static_cast<size_t>(i * p.N + j)];
      T must;
      if (data == Data::integers) {
        must = integer_sum<T>(p.K, left, right) + (p.bias ? bias.at(0, j) : 0) + (p.accumulate ? old : 0);
      } else if (a_transposed) {  // every chunk's sum is added to C
        must = promised_sum<T>(p.K, left, right, p.accumulate ? &old : nullptr);
      } else {
        must = promised_sum<T>(p.K, left, right);
        if (p.bias) must = must + bias.at(0, j);
        if (p.accumulate) must = old + must;
      }
      describe(i, j, c.at(i, j), must);
    }
}

template <class T>
void products(const Backend& backend) {
  Random random(23);
  for (GemmKind kind : {GemmKind::nt, GemmKind::nn, GemmKind::tn}) {
    for (int trial = 0; trial < 60; ++trial) {
      const int64_t K = kDepths[static_cast<size_t>(random.below(13))];
      const Problem p{kind,
                      random.below(24),
                      random.below(70),
                      K,
                      random.below(2) == 1,
                      kind != GemmKind::tn && random.below(2) == 1,
                      static_cast<int32_t>(1 + random.below(4))};
      one_product<T>(backend, p, trial % 2 ? Data::reals : Data::integers, random);
    }
    // Large enough to be shared out, M above what one block of row pointers holds, K above the outer product's.
    one_product<T>(backend, {kind, 131, 37, 65, false, kind != GemmKind::tn, 3}, Data::reals, random);
    one_product<T>(backend, {kind, 7, 33, 1500, true, false, 2}, Data::reals, random);
    // B beyond a thread's own cache, with more tiles of rows than its panels pass at once, on every path.
    one_product<T>(backend, {kind, 61, 70, 4001, true, false, 1}, Data::reals, random);
  }
}

// Each operand rounded once, as it is packed, and nothing else.
void rounded_products(const Backend& backend) {
  Random random(29);
  for (GemmKind kind : {GemmKind::nt, GemmKind::nn, GemmKind::tn})
    for (int trial = 0; trial < 20; ++trial) {
      const Problem p{kind,
                      random.below(24),
                      random.below(70),
                      kDepths[static_cast<size_t>(random.below(8))],  // one chunk
                      random.below(2) == 1,
                      kind != GemmKind::tn && random.below(2) == 1,
                      static_cast<int32_t>(1 + random.below(4))};
      one_product<double>(backend, p, Data::reals, random, true);
    }
}

template <class T>
void column_sums(const Backend& backend) {
  Random random(31);
  for (int64_t rows : {0, 1, 5, 256, 257, 600})
    for (int64_t columns : {1, 3, 16, 17, 61}) {
      Matrix<T> a(rows, columns, random.below(3)), sum(1, columns, 0);
      a.random(Data::reals, random);
      sum.random(Data::reals, random);
      std::vector<T> must(sum.memory.begin(), sum.memory.end());
      for (int64_t j = 0; j < columns; ++j) {
        T total = 0, low = 0;
        for (int64_t first = 0; first < rows; first += kPlainRows) {
          T block = 0;
          for (int64_t i = first; i < rows && i < first + kPlainRows; ++i) block += a.at(i, j);
          const T before = total, taken = (total = before + block) - before;
          low += (before - (total - taken)) + (block - taken);
        }
        must[static_cast<size_t>(j)] += total + low;
      }
      Team team{3, run_in_turn, no_barrier};
      const Status status =
          backend.dense->column_sum(kDType<T>, rows, columns, a.memory.data(), a.ld, sum.memory.data(), &team);
      require(status == Status::ok, "%s: column_sum returned %d", backend.name, static_cast<int>(status));
      for (int64_t j = 0; j < columns; ++j)
        require(sum.at(0, j) == must[static_cast<size_t>(j)], "%s: column_sum of %d x %d: [%d] is %a, must be %a",
                backend.name, static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(j),
                double(sum.at(0, j)), double(must[static_cast<size_t>(j)]));
    }
}

}  // namespace

int main() {
  tiles<float>();
  tiles<double>();
  for (const Backend* backend : fusedrnn::available_backends()) {
    products<float>(*backend);
    products<double>(*backend);
    column_sums<float>(*backend);
    column_sums<double>(*backend);
    const Backend blocked = over_blocked_engine(*backend);
    products<float>(blocked);
    products<double>(blocked);
    rounded_products(over_blocked_engine(*backend, true));
    require(engine_probe(*backend).sums_outside_regions() == 0, "%s: products outside of a Region", blocked.name);
  }
  return check::finish("test_gemm");
}
