// Local response normalisation (P 3.3) with beta = 3/4, forward and backward, at about the cost of
// reading and writing memory. Window sums are made in a buffer that stays in the cache.
//
//   b_i = a_i * u_i^(-3/4),   u_i = k + alpha * (sum of a_j^2 over the window of i)
//   da_i = g_i * s_i - 3/2 * alpha * a_i * (sum of g_j a_j s_j / u_j over the j whose windows hold i)
//
// "planes": memory order (N, C, positions); "pixels": (N, positions, C), torch's channels_last.
// Compiled by native.py, which calls it through ctypes.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float value) { return value; }

inline float wide(bf16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float made;
    std::memcpy(&made, &bits, sizeof made);
    return made;
}

inline void put(float &place, float value) { place = value; }

inline void put(bf16 &place, float value) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    const bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    place.bits = uint16_t(is_nan ? 0x7FC0 : rounded);
}

struct Norm {
    float k, alpha;
    int64_t before, after;  // channels of a window below and above its own
};

// u^(-3/4), and 1/u beside it: Newton's steps to u^(-1/4), from a guess that divides the exponent by -4 and is
// wrong by 3 % at most; three steps leave 2e-7. Multiplications alone: a root and a division take longer.
inline float power(float base, float &inverse) {
    uint32_t bits;
    std::memcpy(&bits, &base, sizeof bits);
    bits = 0x4F586666 - (bits >> 2);
    float root;
    std::memcpy(&root, &bits, sizeof root);
    for (int step = 0; step < 3; ++step) {
        const float squared = root * root;
        root *= 1.25f - 0.25f * base * (squared * squared);
    }
    const float squared = root * root;
    inverse = squared * squared;
    return squared * root;
}

// Sum of the `window` numbers that are `step` apart; a window of 5, the published one, is unrolled.
template <int64_t W>
inline float window_sum(const float *first, int64_t step, int64_t window) {
    float sum = 0;
    if (W) {
        for (int64_t j = 0; j < W; ++j) sum += first[j * step];
    } else {
        for (int64_t j = 0; j < window; ++j) sum += first[j * step];
    }
    return sum;
}

constexpr int64_t WIDTH = 128;  // positions of a tile in planes

// Row r of a tile, squared, into its place in the ring; 0 where r is no channel.
template <typename T>
void put_squares(const T *in, float *squares, int64_t r, int64_t channels, int64_t width, int64_t stride) {
    if (r >= channels) {
        std::memset(squares, 0, width * sizeof(float));
        return;
    }
#pragma omp simd
    for (int64_t p = 0; p < width; ++p) {
        const float a = wide(in[r * stride + p]);
        squares[p] = a * a;
    }
}

// `width` positions of an image; channel c begins at in + c * stride. squares, carried and scales are rings of
// `window` rows of WIDTH numbers, which stay in the first cache: row r is at r % window there, so that a ring
// holds just the rows of one window.
template <typename T, int64_t W>
void forward_tile(const T *in, T *out, float *squares, int64_t channels, int64_t width, int64_t stride,
                  const Norm &norm) {
    const int64_t window = norm.before + norm.after + 1;
    std::memset(squares, 0, window * WIDTH * sizeof(float));
    for (int64_t ahead = 0; ahead < channels + norm.after; ++ahead) {  // the last row of c's window
        put_squares(in, squares + ahead % window * WIDTH, ahead, channels, width, stride);
        const int64_t c = ahead - norm.after;
        if (c < 0) continue;
        const T *a = in + c * stride;
        T *made = out + c * stride;
#pragma omp simd
        for (int64_t p = 0; p < width; ++p) {
            float inverse;
            const float sum = window_sum<W>(squares + p, WIDTH, window);
            put(made[p], wide(a[p]) * power(norm.k + norm.alpha * sum, inverse));
        }
    }
}

template <typename T, int64_t W>
void backward_tile(const T *in, const T *gradient, T *out, float *squares, float *carried, float *scales,
                   int64_t channels, int64_t width, int64_t stride, const Norm &norm) {
    const int64_t window = norm.before + norm.after + 1;
    const float factor = 1.5f * norm.alpha;
    std::memset(squares, 0, window * WIDTH * sizeof(float));
    std::memset(carried, 0, window * WIDTH * sizeof(float));
    for (int64_t ahead = 0; ahead < channels + norm.after + norm.before; ++ahead) {
        put_squares(in, squares + ahead % window * WIDTH, ahead, channels, width, stride);
        const int64_t j = ahead - norm.after, i = j - norm.before;  // j's window ends here, and j ends i's
        if (j < 0) continue;
        float *mine = carried + j % window * WIDTH, *scale = scales + j % window * WIDTH;
        if (j < channels) {
            const T *a = in + j * stride, *g = gradient + j * stride;
#pragma omp simd
            for (int64_t p = 0; p < width; ++p) {
                float inverse;
                const float sum = window_sum<W>(squares + p, WIDTH, window);
                scale[p] = power(norm.k + norm.alpha * sum, inverse);
                mine[p] = wide(g[p]) * wide(a[p]) * scale[p] * inverse;
            }
        } else {
            std::memset(mine, 0, width * sizeof(float));
        }
        if (i < 0) continue;
        const T *a = in + i * stride, *g = gradient + i * stride;
        const float *kept = scales + i % window * WIDTH;
        T *made = out + i * stride;
#pragma omp simd
        for (int64_t p = 0; p < width; ++p) {
            const float sum = window_sum<W>(carried + p, WIDTH, window);
            put(made[p], wide(g[p]) * kept[p] - factor * wide(a[p]) * sum);
        }
    }
}

template <typename T, int64_t W>
void planes(const T *in, const T *gradient, T *out, int64_t images, int64_t channels, int64_t positions,
            const Norm &norm) {
    const int64_t tiles = (positions + WIDTH - 1) / WIDTH, ring = (norm.before + norm.after + 1) * WIDTH;
#pragma omp parallel
    {
        std::vector<float> rings(3 * ring);
        float *squares = rings.data(), *carried = squares + ring, *scales = carried + ring;
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < images * tiles; ++tile) {
            const int64_t start = (tile % tiles) * WIDTH, left = positions - start;
            const int64_t width = left < WIDTH ? left : WIDTH;
            const int64_t place = (tile / tiles) * channels * positions + start;
            if (gradient)
                backward_tile<T, W>(in + place, gradient + place, out + place, squares, carried, scales, channels,
                                    width, positions, norm);
            else
                forward_tile<T, W>(in + place, out + place, squares, channels, width, positions, norm);
        }
    }
}

// One pixel is a row of channels: the window slides along contiguous memory.
template <typename T, int64_t W>
void pixels(const T *in, const T *gradient, T *out, int64_t count, int64_t channels, const Norm &norm) {
    const int64_t window = norm.before + norm.after + 1, length = norm.before + channels + norm.after;
#pragma omp parallel
    {
        std::vector<float> squares(length), carried(length), scales(channels);
#pragma omp for schedule(static)
        for (int64_t pixel = 0; pixel < count; ++pixel) {
            const T *a = in + pixel * channels;
            T *made = out + pixel * channels;
            float *own = squares.data() + norm.before, *mine = carried.data() + norm.after;
            for (int64_t c = 0; c < channels; ++c) own[c] = wide(a[c]) * wide(a[c]);
            if (!gradient) {
                for (int64_t c = 0; c < channels; ++c) {
                    float inverse;
                    const float sum = window_sum<W>(squares.data() + c, 1, window);
                    put(made[c], wide(a[c]) * power(norm.k + norm.alpha * sum, inverse));
                }
                continue;
            }
            const T *g = gradient + pixel * channels;
            for (int64_t c = 0; c < channels; ++c) {
                float inverse;
                const float sum = window_sum<W>(squares.data() + c, 1, window);
                scales[c] = power(norm.k + norm.alpha * sum, inverse);
                mine[c] = wide(g[c]) * wide(a[c]) * scales[c] * inverse;
            }
            const float factor = 1.5f * norm.alpha;
            for (int64_t c = 0; c < channels; ++c) {
                const float sum = window_sum<W>(carried.data() + c, 1, window);
                put(made[c], wide(g[c]) * scales[c] - factor * wide(a[c]) * sum);
            }
        }
    }
}

template <typename T, int64_t W>
void run(const void *in, const void *gradient, void *out, int64_t images, int64_t channels, int64_t positions,
         int channels_last, const Norm &norm) {
    const T *a = static_cast<const T *>(in), *g = static_cast<const T *>(gradient);
    T *made = static_cast<T *>(out);
    if (channels_last)
        pixels<T, W>(a, g, made, images * positions, channels, norm);
    else
        planes<T, W>(a, g, made, images, channels, positions, norm);
}

}  // namespace

// gradient null: forward. Windows reach from `before` channels below to `after` above.
extern "C" void lrn(const void *in, const void *gradient, void *out, int64_t images, int64_t channels,
                    int64_t positions, int channels_last, int is_bf16, int64_t before, int64_t after, float k,
                    float alpha) {
    const Norm norm{k, alpha, before, after};
    const bool published = before == 2 && after == 2;
    const auto chosen = is_bf16 ? (published ? run<bf16, 5> : run<bf16, 0>)
                                : (published ? run<float, 5> : run<float, 0>);
    chosen(in, gradient, out, images, channels, positions, channels_last, norm);
}
