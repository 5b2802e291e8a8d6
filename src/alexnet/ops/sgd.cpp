// The update rule of P 5 in one pass over memory: v <- momentum v + decay w + rate g;  w <- w + v.
// A product and a sum are rounded once, as in torch's operations on a processor that can, so that every bit
// is theirs. Compiled by native.py, which calls it through ctypes.

#include <cmath>
#include <cstdint>

// n values each; decay and rate with their signs.
extern "C" void sgd(float *w, float *v, const float *g, int64_t n, float momentum, float decay, float rate,
                    int threads) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    const auto added = [](float factor, float value, float sum) { return std::fma(factor, value, sum); };
#else
    const auto added = [](float factor, float value, float sum) { return factor * value + sum; };
#endif
#pragma omp parallel for schedule(static) num_threads(threads) if (n > 32768)
    for (int64_t i = 0; i < n; ++i) {
        v[i] = added(rate, g[i], added(decay, w[i], momentum * v[i]));
        w[i] += v[i];
    }
}
