// Crops to what the network sees, in one pass over memory: (mirrored crop - mean + shift) / divisor.
// In this order and without -ffast-math, so that every bit is that of torch's operations.
// Compiled by native.py, which calls it through ctypes.

#include <cstdint>

namespace {

template <bool MIRRORED>
void plane(const uint8_t *crop, const float *mean, float *out, int64_t rows, int64_t width, float shift,
           float divisor) {
    for (int64_t row = 0; row < rows; ++row, crop += width, mean += width, out += width)
        for (int64_t x = 0; x < width; ++x)
            out[x] = (float(crop[MIRRORED ? width - 1 - x : x]) - mean[x] + shift) / divisor;
}

}  // namespace

// crops and out (images, channels, rows, width), mean (channels, rows, width), shifts (images, channels).
extern "C" void pixels(const uint8_t *crops, const bool *flips, const float *mean, const float *shifts,
                       float *out, int64_t images, int64_t channels, int64_t rows, int64_t width,
                       float divisor, int threads) {
    const int64_t size = rows * width;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t image = 0; image < images; ++image) {
        const auto fill = flips[image] ? plane<true> : plane<false>;
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t place = image * channels + channel;
            fill(crops + place * size, mean + channel * size, out + place * size, rows, width, shifts[place],
                 divisor);
        }
    }
}
