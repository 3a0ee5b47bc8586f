// Right kernels give right results on the emulator, under any schedule.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>

#include "fixture.hpp"

namespace {

using namespace fixture;

// ------------------------------------------------------------------------------------------------ who and how many
struct Places {
  int64_t* out;  // six numbers a thread
};

FR_KERNEL void places(const FR_CONSTANT Places a) {
  const int64_t block = (block_z() * blocks_y() + block_y()) * blocks_x() + block_x();
  int64_t* out = a.out + (block * threads() + thread()) * 6;
  const int64_t numbers[6] = {block_x(), block_y(), block_z(), thread(), lane(), warp()};
  for (int i = 0; i < 6; ++i) store(out + i, numbers[i]);
}

void every_thread_knows_its_place() {
  under_schedules(8, [] {
    Device<int64_t> out(2 * 3 * 4 * 96 * 6);
    require_ok(launch<places>({{2, 3, 4}, 96}, nullptr, {out.data()}));
    const std::vector<int64_t> got = out.values();
    for (int64_t i = 0; i < 2 * 3 * 4 * 96; ++i) {
      const int64_t block = i / 96, thread = i % 96;
      const int64_t expected[6] = {block % 2, block / 2 % 3, block / 6, thread, thread % 32, thread / 32};
      for (int k = 0; k < 6; ++k) check::require(got[i * 6 + k] == expected[k], "thread %d: number %d", int(i), k);
    }
  });
}

// -------------------------------------------------------------------------------------------- meetings and shuffles
struct Sums {
  const float* x;
  float* out;
  int rounds;
};

// Sums 128 numbers of each block again and again through shuffles, shared memory and barriers.
FR_KERNEL void sums(const FR_CONSTANT Sums a) {
  Shared<float> parts = shared<float>(0, 4);
  Shared<float> total = shared<float>(4 * sizeof(float), 1);
  float value = load(a.x + block_x() * threads() + thread());
  for (int round = 0; round < a.rounds; ++round) {
    for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    if (lane() == 0) parts[warp()] = value;
    barrier();
    if (thread() == 96) {
      float sum = 0;
      for (int w = 0; w < 4; ++w) sum += parts[w];
      total[0] = sum;
    }
    barrier();
    value = total[0] / 128;
  }
  const double wide = shuffle(static_cast<double>(lane()) + 1e-12, 31 - lane());
  store(a.out + block_x() * threads() + thread(), value + (wide == 31 - lane() + 1e-12 ? 0.0f : NAN));
}

void meetings_and_shuffles() {
  std::vector<float> x(5 * 128);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  std::vector<float> first;
  under_schedules(20, [&] {
    Device<float> in(x), out(x.size());
    require_ok(launch<sums>({{5}, 128, 5 * sizeof(float)}, nullptr, {in.data(), out.data(), 3}));
    for (int block = 0; block < 5; ++block) {
      const float mean = std::accumulate(x.begin() + block * 128, x.begin() + block * 128 + 128, 0.0f) / 128;
      check::require(std::abs(out.values()[block * 128 + 5] - mean) < 1e-5f, "mean of block %d", block);
    }
    if (first.empty()) first = out.values();
    check::require(out.values() == first, "the same bits under every schedule");
  });
}

// ------------------------------------------------------------------------------------------------------- schedules
struct Trace {
  int* next;
  int* order;
};

FR_KERNEL void trace(const FR_CONSTANT Trace a) {
  warp_barrier();
  const int at = load(a.next);
  store(a.next, at + 1);
  store(a.order + at, static_cast<int>(block_x()) * threads() + thread());
}

void schedules_differ_and_repeat() {
  const auto order = [] {
    Device<int> next(std::vector<int>{0}), out(4 * 64);
    require_ok(launch<trace>({{4}, 64}, nullptr, {next.data(), out.data()}));
    return out.values();
  };
  std::vector<int> sorted(4 * 64);
  std::iota(sorted.begin(), sorted.end(), 0);
  std::set<std::vector<int>> seen;
  bool interleaved = false;
  under_schedules(10, [&] {
    const std::vector<int> got = order();
    seen.insert(got);
    // Blocks one after the other change the block three times.
    int changes = 0;
    for (size_t i = 1; i < got.size(); ++i) changes += got[i] / 64 != got[i - 1] / 64;
    interleaved |= changes > 3;
    std::vector<int> all = got;
    std::sort(all.begin(), all.end());
    check::require(all == sorted, "every thread runs once");
  });
  check::require(seen.size() == 10, "%d of 10 seeds gave schedules of their own", static_cast<int>(seen.size()));
  check::require(interleaved, "blocks run between each other");
}

// ------------------------------------------------------------------------------------------------------ async copies
struct Copies {
  const float* x;
  float* out;
  int count;
};

// A two-stage pipeline over tiles of 128 floats, the last one short.
FR_KERNEL void pipeline(const FR_CONSTANT Copies a) {
  const int tiles = (a.count + 127) / 128;
  const auto fetch = [&](int tile) {
    const int at = tile * 128 + thread() * 4, left = a.count - at;
    copy_async16(shared<float>(tile % 2 * 512, 128) + thread() * 4, a.x + at, left >= 4 ? 16 : left > 0 ? left * 4 : 0);
    commit_copies();
  };
  fetch(0);
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      fetch(tile + 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    barrier();
    for (int i = thread(); i < 128; i += threads()) {
      store(a.out + tile * 128 + i, static_cast<float>(shared<float>(tile % 2 * 512, 128)[127 - i]));
    }
    barrier();
  }
}

void asynchronous_copies() {
  for (const int count : {4, 127, 128, 300, 513}) {
    std::vector<float> x(count);
    std::iota(x.begin(), x.end(), 1.0f);
    under_schedules(6, [&] {
      const int padded = (count + 127) / 128 * 128;
      Device<float> in(x), out(padded);
      require_ok(launch<pipeline>({{1}, 32, 1024}, nullptr, {in.data(), out.data(), count}));
      for (int i = 0; i < padded; ++i) {
        const int source = i / 128 * 128 + 127 - i % 128;
        const float expected = source < count ? x[source] : 0.0f;
        check::require(out.values()[i] == expected, "element %d of %d", i, count);
      }
    });
  }
}

// ----------------------------------------------------------------------------------------------------- tensor cores
struct Product {
  const float *a, *b;
  float* d;
};

template <class T>
uint32_t pair(T low, T high) {
  return low.bits | static_cast<uint32_t>(high.bits) << 16;
}

template <class T, T (*round)(float), void (*multiply)(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
FR_KERNEL void product16(const FR_CONSTANT Product p) {
  const int g = lane() / 4, t = lane() % 4;
  const auto of_a = [&](int row, int k) { return pair(round(p.a[row * 16 + k]), round(p.a[row * 16 + k + 1])); };
  const auto of_b = [&](int k) { return pair(round(p.b[k * 8 + g]), round(p.b[(k + 1) * 8 + g])); };
  const uint32_t a[4] = {of_a(g, 2 * t), of_a(g + 8, 2 * t), of_a(g, 2 * t + 8), of_a(g + 8, 2 * t + 8)};
  const uint32_t b[2] = {of_b(2 * t), of_b(2 * t + 8)};
  float d[4] = {1, 2, 3, 4};
  multiply(d, a, b);
  for (int i = 0; i < 4; ++i) store(p.d + (g + i / 2 * 8) * 8 + 2 * t + i % 2, d[i]);
}

FR_KERNEL void product8(const FR_CONSTANT Product p) {
  const int g = lane() / 4, t = lane() % 4;
  const auto of_a = [&](int row, int k) { return to_tf32(p.a[row * 16 + k]); };
  const uint32_t a[4] = {of_a(g, t), of_a(g + 8, t), of_a(g, t + 4), of_a(g + 8, t + 4)};
  const uint32_t b[2] = {to_tf32(p.b[t * 8 + g]), to_tf32(p.b[(t + 4) * 8 + g])};
  float d[4] = {1, 2, 3, 4};
  mma_tf32(d, a, b);
  for (int i = 0; i < 4; ++i) store(p.d + (g + i / 2 * 8) * 8 + 2 * t + i % 2, d[i]);
}

struct Matrices {
  uint32_t *rows, *columns;
};

// 32 rows of 8 numbers, matrix m those from 8 m on.
FR_KERNEL void matrices(const FR_CONSTANT Matrices m) {
  const Shared<uint16_t> numbers = shared<uint16_t>(0, 32 * 8);
  for (int i = thread(); i < 32 * 8; i += threads()) numbers[i] = static_cast<uint16_t>(i);
  barrier();
  uint32_t rows[4], columns[4];
  load_matrices<false>(numbers + lane() * 8, rows);
  load_matrices<true>(numbers + lane() * 8, columns);
  for (int i = 0; i < 4; ++i) {
    store(m.rows + i * 32 + lane(), rows[i]);
    store(m.columns + i * 32 + lane(), columns[i]);
  }
}

void matrices_by_rows_and_columns() {
  under_schedules(4, [&] {
    Device<uint32_t> rows(128), columns(128);
    require_ok(launch<matrices>({{1}, 32, 512}, nullptr, {rows.data(), columns.data()}));
    for (uint32_t i = 0; i < 128; ++i) {
      const uint32_t m = i / 32, g = i % 32 / 4, t = i % 4, row = (8 * m + g) * 8 + 2 * t,
                     column = (8 * m + 2 * t) * 8 + g;
      check::require(rows.values()[i] == (row | (row + 1) << 16), "matrix %u, row %u, word %u", m, g, t);
      check::require(columns.values()[i] == (column | (column + 8) << 16), "matrix %u, column %u, word %u", m, g, t);
    }
  });
}

// Integers are exact in every format, so a wrong place is a wrong number.
template <auto kernel>
void tensor_core(int depth) {
  std::vector<float> a(16 * 16), b(16 * 8);
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>((i * 37 + i / 16 * 11) % 61 - 30);
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>((i * 53 + i / 8 * 7) % 59 - 29);
  under_schedules(4, [&] {
    Device<float> left(a), right(b), out(128);
    require_ok(launch<kernel>({{1}, 32}, nullptr, {left.data(), right.data(), out.data()}));
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        float sum = static_cast<float>(1 + row / 8 * 2 + column % 2);
        for (int k = 0; k < depth; ++k) sum += a[row * 16 + k] * b[k * 8 + column];
        check::require(out.values()[row * 8 + column] == sum, "depth %d, element %d %d", depth, row, column);
      }
    }
  });
}

// ------------------------------------------------------------------------------------------------------ conversions
// The nearest of a format's numbers, ties to even, by arithmetic in double: `digits` of significand, exponents from
// `lowest` on, infinity from `overflow` on.
double nearest(double x, int digits, int lowest, double overflow) {
  if (x == 0 || std::isnan(x)) return x;
  if (std::abs(x) >= overflow) return std::copysign(INFINITY, x);
  const double step = std::ldexp(1.0, std::max(std::ilogb(x), lowest) - (digits - 1));
  return std::nearbyint(x / step) * step;
}

void conversions() {
  const auto same = [](float a, double b) {
    return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
  };
  const double bf16_overflow = std::ldexp(511.0, 119), tf32_overflow = std::ldexp(4095.0, 116);
  for (uint64_t i = 0; i <= UINT32_MAX; i += 4099) {
    const float x = simt::float_of(static_cast<uint32_t>(i));
    check::require(same(to_float(to_bf16(x)), nearest(x, 8, -126, bf16_overflow)), "bf16 of %a", x);
    check::require(same(to_float(to_fp16(x)), nearest(x, 11, -14, 65520)), "fp16 of %a", x);
    check::require(same(simt::float_of(to_tf32(x)), nearest(x, 11, -126, tf32_overflow)), "tf32 of %a", x);
    check::require((to_tf32(x) & 0x1fff) == 0 || std::isnan(x), "tf32 of %a has low bits", x);
  }
  for (uint32_t bits = 0; bits <= UINT16_MAX; ++bits) {
    const uint16_t b = static_cast<uint16_t>(bits);
    const float bf16 = to_float(Bf16{b}), fp16 = to_float(Fp16{b});
    check::require(std::isnan(bf16) || to_bf16(bf16).bits == b, "bf16 %04x", bits);
    check::require(std::isnan(fp16) || to_fp16(fp16).bits == b, "fp16 %04x", bits);
    // Ties and their neighbours.
    for (const double between : {0.5, 0.49999, 0.50001}) {
      const auto tie = [&](double low, double high) { return static_cast<float>(low + between * (high - low)); };
      if (b % 0x8000 < 0x7bff) {
        const float x = tie(fp16, to_float(Fp16{static_cast<uint16_t>(b + 1)}));
        check::require(same(to_float(to_fp16(x)), nearest(x, 11, -14, 65520)), "fp16 of %a", x);
      }
      if (b % 0x8000 < 0x7f7f) {
        const float x = tie(bf16, to_float(Bf16{static_cast<uint16_t>(b + 1)}));
        check::require(same(to_float(to_bf16(x)), nearest(x, 8, -126, bf16_overflow)), "bf16 of %a", x);
      }
    }
  }
}

// ----------------------------------------------------------------------------------------------------------- memory
struct Nothing {};
FR_KERNEL void nothing(const FR_CONSTANT Nothing) {}

void memory_and_launches() {
  void* memory = &memory;
  require_ok(alloc(0, &memory));
  check::require(memory == nullptr, "no bytes, no memory");
  require_ok(hw::free(nullptr));
  Device<float> fresh(100);
  check::require(reinterpret_cast<uintptr_t>(fresh.data()) % 64 == 0, "alignment of device memory");
  for (const float value : fresh.values()) check::require(std::isnan(value), "fresh memory is NaN");
  require_ok(launch<nothing>({{0, 3, 3}, 32}, nullptr, {}));

  setenv("FUSEDRNN_SIMT_MEMORY", "1000000", 1);
  check::require(alloc(1000001, &memory) == Status::out_of_memory && memory == nullptr, "more than the device has");
  check::require(std::strstr(status_text(), "alloc(1000001) at tests/simt/test_emulator.cpp:") != nullptr, "%s",
                 status_text());
  unsetenv("FUSEDRNN_SIMT_MEMORY");
}

}  // namespace

int main() {
  every_thread_knows_its_place();
  meetings_and_shuffles();
  schedules_differ_and_repeat();
  asynchronous_copies();
  tensor_core<product16<Bf16, to_bf16, mma_bf16>>(16);
  tensor_core<product16<Fp16, to_fp16, mma_fp16>>(16);
  tensor_core<product8>(8);
  matrices_by_rows_and_columns();
  conversions();
  memory_and_launches();
  return check::finish("emulator");
}
