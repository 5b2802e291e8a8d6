// Local response normalisation (P 3.3) with beta = 3/4, forward and backward, at about the cost of
// reading and writing memory. Window sums are made in a buffer that stays in the cache.
//
//   b_i = a_i * u_i^(-3/4),   u_i = k + alpha * (sum of a_j^2 over the window of i)
//   da_i = g_i * s_i - 3/2 * alpha * a_i * (sum of g_j a_j s_j / u_j over the j whose windows hold i)
//
// "planes": memory order (N, C, positions); "pixels": (N, positions, C), torch's channels_last.
// Compiled by native.py, which calls it through ctypes.

#include <cmath>
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

inline float inverse_root(float value) { return 1.0f / std::sqrt(value); }

// u^(-3/4), and 1/u beside it
inline float power(float base, float &inverse) {
    const float root = inverse_root(base);
    inverse = root * root;
    return root * root * inverse_root(root);
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

// A tile: `channels` rows of `width` numbers; row c of the input begins at input + c * stride.
// squares and carried have before + channels + after rows; the rows at the ends are 0.
template <typename T>
void put_squares(const T *in, float *squares, int64_t channels, int64_t width, int64_t stride) {
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t p = 0; p < width; ++p) {
            const float a = wide(in[c * stride + p]);
            squares[c * width + p] = a * a;
        }
}

template <typename T, int64_t W>
void forward_tile(const T *in, T *out, float *squares, int64_t channels, int64_t width, int64_t stride,
                  const Norm &norm) {
    const int64_t window = norm.before + norm.after + 1;
    put_squares(in, squares + norm.before * width, channels, width, stride);
    for (int64_t c = 0; c < channels; ++c) {
        const float *first = squares + c * width;
        for (int64_t p = 0; p < width; ++p) {
            float inverse;
            const float sum = window_sum<W>(first + p, width, window);
            const float scale = power(norm.k + norm.alpha * sum, inverse);
            put(out[c * stride + p], wide(in[c * stride + p]) * scale);
        }
    }
}

template <typename T, int64_t W>
void backward_tile(const T *in, const T *gradient, T *out, float *squares, float *carried, float *scales,
                   int64_t channels, int64_t width, int64_t stride, const Norm &norm) {
    const int64_t window = norm.before + norm.after + 1;
    float *mine = carried + norm.after * width;
    put_squares(in, squares + norm.before * width, channels, width, stride);
    for (int64_t c = 0; c < channels; ++c) {
        const float *first = squares + c * width;
        for (int64_t p = 0; p < width; ++p) {
            float inverse;
            const float sum = window_sum<W>(first + p, width, window);
            const float scale = power(norm.k + norm.alpha * sum, inverse);
            scales[c * width + p] = scale;
            mine[c * width + p] = wide(gradient[c * stride + p]) * wide(in[c * stride + p]) * scale * inverse;
        }
    }
    const float factor = 1.5f * norm.alpha;
    for (int64_t c = 0; c < channels; ++c) {
        const float *first = carried + c * width;
        for (int64_t p = 0; p < width; ++p) {
            const float sum = window_sum<W>(first + p, width, window);
            const float a = wide(in[c * stride + p]), g = wide(gradient[c * stride + p]);
            put(out[c * stride + p], g * scales[c * width + p] - factor * a * sum);
        }
    }
}

constexpr int64_t WIDTH = 64;  // positions of a tile in planes

template <typename T, int64_t W>
void planes(const T *in, const T *gradient, T *out, int64_t images, int64_t channels, int64_t positions,
            const Norm &norm) {
    const int64_t tiles = (positions + WIDTH - 1) / WIDTH, rows = norm.before + channels + norm.after;
#pragma omp parallel
    {
        std::vector<float> squares(rows * WIDTH), carried(rows * WIDTH), scales(channels * WIDTH);
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < images * tiles; ++tile) {
            const int64_t start = (tile % tiles) * WIDTH, left = positions - start;
            const int64_t width = left < WIDTH ? left : WIDTH;
            const int64_t place = (tile / tiles) * channels * positions + start;
            if (width < WIDTH) {  // other rows are the ends now
                std::fill(squares.begin(), squares.end(), 0.0f);
                std::fill(carried.begin(), carried.end(), 0.0f);
            }
            if (gradient)
                backward_tile<T, W>(in + place, gradient + place, out + place, squares.data(), carried.data(),
                              scales.data(), channels, width, positions, norm);
            else
                forward_tile<T, W>(in + place, out + place, squares.data(), channels, width, positions, norm);
            if (width < WIDTH) {
                std::fill(squares.begin(), squares.end(), 0.0f);
                std::fill(carried.begin(), carried.end(), 0.0f);
            }
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
