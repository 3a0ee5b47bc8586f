// exp, sigmoid, tanh, log and log1p: error against the C library in a wider type, special values, the same bits on
// every ISA, and bits pinned by a hash, so that another architecture gives them too.
//   test_math [DISTANCE [DOUBLES]]   floats so far apart (1021; 1 for every float) and so many doubles (400000)
#include <cmath>
#include <limits>

#include "check.hpp"
#include "probes.hpp"
#include "random.hpp"

namespace {

using check::require;

// A function, its truth, where it is defined, and the largest error allowed, in units of the result's last place.
struct Subject {
  const char* name;
  double (*truth32)(double);
  long double (*truth64)(long double);
  double low, high;
  double ulp32, ulp64;
};

constexpr double kMax = std::numeric_limits<double>::infinity();

const Subject kSubjects[] = {
    {"exp", std::exp, std::exp, -kMax, kMax, 0.9, 0.9},
    {"sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }, [](long double x) { return 1 / (1 + std::exp(-x)); },
     -kMax, kMax, 2.05, 2.05},
    {"tanh", std::tanh, std::tanh, -kMax, kMax, 1.25, 2.6},
    {"log", std::log, std::log, -kMax, kMax, 1.0, 1.1},
    {"log1p", std::log1p, std::log1p, 0.0, 1.0, 1.1, 1.0},
};

// |got - truth| in units of the last place of a T of truth's size (the smallest subnormal at least).
template <class T, class Wide>
double error_in_ulp(T got, Wide truth) {
  constexpr int digits = std::numeric_limits<T>::digits, smallest = std::numeric_limits<T>::min_exponent;
  int exponent = smallest;
  if (truth != 0) std::frexp(truth, &exponent);
  const int ulp = (exponent < smallest ? smallest : exponent) - digits;
  return static_cast<double>(std::fabs((static_cast<Wide>(got) - truth) / std::ldexp(Wide(1), ulp)));
}

// Runs one batch of inputs through every ISA; keeps the worst error.
template <class T, class Wide>
class Trial {
 public:
  Trial(const Subject& subject, Wide (*truth)(Wide), double bound) : subject_(subject), truth_(truth), bound_(bound) {
    for (const Probe* probe : probes_) functions_.push_back(&find(*probe, subject.name));
  }

  void run(const std::vector<T>& in) {
    const auto n = static_cast<int64_t>(in.size());
    first_.resize(in.size());
    other_.resize(in.size());
    for (size_t p = 0; p < functions_.size(); ++p) {
      call(*functions_[p], in.data(), p == 0 ? first_.data() : other_.data(), n);
      for (size_t i = 0; p > 0 && i < in.size(); ++i)
        if (!same_bits(first_[i], other_[i]))
          require(false, "%s(%a): %s gives %a, %s %a", subject_.name, double(in[i]), probes_[0]->isa, double(first_[i]),
                  probes_[p]->isa, double(other_[i]));
    }
    for (size_t i = 0; i < in.size(); ++i) judge(in[i], first_[i]);
    require(true, "%s", subject_.name);
  }

  void report(const char* type) const {
    std::printf("%-8s %-7s %.4f ulp at %a\n", subject_.name, type, worst_, double(worst_at_));
    require(worst_ <= bound_, "%s (%s): error %.4f ulp at %a, allowed %.4f", subject_.name, type, worst_,
            double(worst_at_), bound_);
    require(worst_ > bound_ / 2, "%s (%s): error %.4f ulp is far below the %.4f allowed: is this the function meant?",
            subject_.name, type, worst_, bound_);
  }

 private:
  void judge(T x, T got) {
    const Wide truth = truth_(static_cast<Wide>(x));
    const T rounded = static_cast<T>(truth);
    if (rounded != rounded || std::isinf(rounded)) {
      require(same_bits(got, rounded), "%s(%a) is %a, must be %a", subject_.name, double(x), double(got),
              double(rounded));
      return;
    }
    const double error = error_in_ulp(got, truth);
    if (!(error <= worst_)) {
      worst_ = error;
      worst_at_ = x;
    }
  }

  const Subject& subject_;
  Wide (*truth_)(Wide);
  double bound_;
  std::vector<const Probe*> probes_ = probes();
  std::vector<const ProbeFunction*> functions_;
  std::vector<T> first_, other_;
  double worst_ = 0;
  T worst_at_ = 0;
};

void sweep_float(const Subject& subject, uint64_t stride) {
  Trial<float, double> trial(subject, subject.truth32, subject.ulp32);
  std::vector<float> in;
  const auto flush = [&] {
    if (!in.empty()) trial.run(in);
    in.clear();
  };
  for (uint64_t pattern = 0; pattern < (uint64_t{1} << 32); pattern += stride) {
    const auto bits = static_cast<uint32_t>(pattern);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    if (x != x || (double(x) >= subject.low && double(x) <= subject.high)) in.push_back(x);
    if (in.size() == 65536) flush();
  }
  flush();
  trial.report("float");
}

// Magnitudes from 2^-60 up, the range where the function moves, its tails with subnormal results, and any bit pattern.
void sweep_double(const Subject& subject, int64_t count) {
  Trial<double, long double> trial(subject, subject.truth64, subject.ulp64);
  Random random(7);
  std::vector<double> in;
  for (int64_t i = 0; i < count; ++i) {
    double x = 0;
    switch (i & 3) {
      case 0:
        x = random.scaled(-52, 11);
        break;
      case 1:
        x = random.uniform(-40, 40);
        break;
      case 2:
        x = random.uniform(-760, 760);
        break;
      default:
        const uint64_t bits = random.bits();
        std::memcpy(&x, &bits, sizeof x);
    }
    if (subject.low == 0) x = std::fabs(x) - std::floor(std::fabs(x));
    if (x != x || (x >= subject.low && x <= subject.high)) in.push_back(x);
  }
  trial.run(in);
  trial.report("double");
}

template <class T>
void special_values() {
  using Limits = std::numeric_limits<T>;
  constexpr T inf = Limits::infinity(), nan = Limits::quiet_NaN();
  struct Case {
    const char* name;
    T in, out;
  };
  const Case cases[] = {
      {"exp", 0, 1},
      {"exp", T(-0.0), 1},
      {"exp", inf, inf},
      {"exp", -inf, 0},
      {"exp", nan, nan},
      {"exp", Limits::max(), inf},
      {"sigmoid", 0, T(0.5)},
      {"sigmoid", T(-0.0), T(0.5)},
      {"sigmoid", inf, 1},
      {"sigmoid", -inf, 0},
      {"sigmoid", nan, nan},
      {"tanh", 0, 0},
      {"tanh", T(-0.0), T(-0.0)},
      {"tanh", inf, 1},
      {"tanh", -inf, -1},
      {"tanh", nan, nan},
      {"log", 1, 0},
      {"log", 0, -inf},
      {"log", T(-0.0), -inf},
      {"log", inf, inf},
      {"log", -1, nan},
      {"log", -inf, nan},
      {"log", nan, nan},
      {"log1p", 0, 0},
      {"log1p", nan, nan},
      {"relu", T(-3), 0},
      {"relu", T(3), 3},
      {"relu", nan, nan},
      {"relu", inf, inf},
      {"relu", -inf, 0},
      {"tanh", Limits::denorm_min(), Limits::denorm_min()},
      {"sigmoid_slope", 1, 0},
      {"sigmoid_slope", nan, nan},
      {"tanh_slope", -1, 0},
      {"log1p", Limits::denorm_min(), Limits::denorm_min()},
  };
  for (const Probe* probe : probes())
    for (const Case& c : cases) {
      T out = 42;
      call(find(*probe, c.name), &c.in, &out, 1);
      require(same_bits(out, c.out), "%s: %s(%a) is %a, must be %a", probe->isa, c.name, double(c.in), double(out),
              double(c.out));
    }
  // relu's gradient: where the state is 0 none passes, elsewhere all of it, a NaN state hides nothing.
  for (const Probe* probe : probes()) {
    const T in[8] = {0, T(-0.0), 2, nan, 5, nan, 7, nan};
    const T must[4] = {0, 0, 7, nan};
    T out[4];
    call(find(*probe, "relu_grad"), in, out, 4);
    for (int i = 0; i < 4; ++i)
      require(same_bits(out[i], must[i]), "%s: relu_grad(%a, %a) is %a", probe->isa, double(in[i]), double(in[4 + i]),
              double(out[i]));
  }
}

// What users of the functions rely on beyond the error bound.
template <class T>
void ranges() {
  Random random(11);
  std::vector<T> x(20000), minus(x.size()), y(x.size()), z(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<T>(random.scaled(-6, 5));
    minus[i] = -x[i];
  }
  const auto n = static_cast<int64_t>(x.size());
  for (const Probe* probe : probes()) {
    call(find(*probe, "tanh"), x.data(), y.data(), n);
    call(find(*probe, "tanh"), minus.data(), z.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      require(std::fabs(y[i]) <= 1, "%s: |tanh(%a)| > 1", probe->isa, double(x[i]));
      require(same_bits(y[i], -z[i]), "%s: tanh is not odd at %a", probe->isa, double(x[i]));
    }
    call(find(*probe, "sigmoid"), x.data(), y.data(), n);
    for (size_t i = 0; i < x.size(); ++i)
      require(y[i] > 0 && y[i] <= 1, "%s: sigmoid(%a) outside (0, 1]", probe->isa, double(x[i]));
  }
}

// The bits of fixed inputs, pinned. A change of the functions changes the hash on purpose; anything else that does is a
// compiler, library or machine that breaks the promise of equal bits.
template <class T>
void pinned(const char* type, uint64_t expected) {
  Random random(3);
  std::vector<T> in(50000), out(in.size());
  for (T& x : in) x = static_cast<T>(random.scaled(-13, 10));
  for (const Probe* probe : probes()) {
    Hash hash;
    for (const char* name : {"exp", "sigmoid", "tanh", "log"}) {
      call(find(*probe, name), in.data(), out.data(), static_cast<int64_t>(in.size()));
      for (T y : out) hash.add(y);
    }
    require(hash.value() == expected, "%s, %s: the bits hash to 0x%016llx, pinned are 0x%016llx", probe->isa, type,
            static_cast<unsigned long long>(hash.value()), static_cast<unsigned long long>(expected));
  }
}

}  // namespace

int main(int count, char** arguments) {
  const uint64_t stride = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1021;
  const int64_t doubles = count > 2 ? std::strtoll(arguments[2], nullptr, 10) : 400000;
  if (stride == 0 || doubles <= 0) {
    std::fprintf(stderr, "usage: %s [distance between floats tried, 1 for all [doubles tried]]\n", arguments[0]);
    return 2;
  }
  special_values<float>();
  special_values<double>();
  ranges<float>();
  ranges<double>();
  pinned<float>("float", 0x8c9489ae7ec8a4f8u);
  pinned<double>("double", 0x7b310ac5f8b49fbbu);
  for (const Subject& subject : kSubjects) {
    sweep_float(subject, stride);
    sweep_double(subject, doubles);
  }
  return check::finish("test_math");
}
