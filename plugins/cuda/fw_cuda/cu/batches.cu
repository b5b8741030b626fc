// Batches of a dataset that is kept on the device.

// Row k of y is row indices[k] of data, times a factor and plus an offset: one for all, or one for each channel, of
// which each takes `inner` elements of a row. Rounded twice, as the host does.
extern "C" __global__ void fw_gather_normalized(
    const I* data, const long long* indices, T* y, index_t n, index_t width,
    const T* factor, const T* offset, index_t inner, index_t channels
) {
    FW_EACH(i, n * width) {
        const index_t j = i % width, c = (j / inner) % channels;
        const A v = A(data[indices[i / width] * width + j]);
        y[i] = T(fw_add_rounded(fw_multiply_rounded(v, A(factor[c])), A(offset[c])));
    }
}
