// Layer and batch normalisation: mean and variance in two passes, weight and bias null where there are none.

// One block a row of `width`; weight and bias have that width.
extern "C" __global__ void fw_layer_norm(
    const T* x, const T* weight, const T* bias, T* y, T* means, T* inverses, index_t width, double eps
) {
    const index_t row = blockIdx.x;
    x += row * width;
    y += row * width;
    A total = A(0);
    FW_EACH_OF_BLOCK(j, width) total += A(x[j]);
    const A mean = fw_block_sum(total) / A(width);
    total = A(0);
    FW_EACH_OF_BLOCK(j, width) total += (A(x[j]) - mean) * (A(x[j]) - mean);
    const A inverse = A(1) / sqrt(fw_block_sum(total) / A(width) + A(eps));
    FW_EACH_OF_BLOCK(j, width) {
        const A normal = (A(x[j]) - mean) * inverse;
        y[j] = T(normal * (weight ? A(weight[j]) : A(1)) + (bias ? A(bias[j]) : A(0)));
    }
    if (threadIdx.x == 0) {
        means[row] = T(mean);
        inverses[row] = T(inverse);
    }
}

// Gradients with respect to x, and to a weight of x's shape.
extern "C" __global__ void fw_layer_norm_grad(
    const T* g, const T* x, const T* means, const T* inverses, const T* weight, T* gx, T* gw, index_t width
) {
    const index_t row = blockIdx.x, start = row * width;
    const A mean = A(means[row]), inverse = A(inverses[row]);
    A even = A(0), along = A(0);
    FW_EACH_OF_BLOCK(j, width) {
        const A gn = A(g[start + j]) * (weight ? A(weight[j]) : A(1));
        even += gn;
        along += gn * ((A(x[start + j]) - mean) * inverse);
    }
    even = fw_block_sum(even) / A(width);
    along = fw_block_sum(along) / A(width);
    FW_EACH_OF_BLOCK(j, width) {
        const A normal = (A(x[start + j]) - mean) * inverse;
        const A gn = A(g[start + j]) * (weight ? A(weight[j]) : A(1));
        gx[start + j] = T((gn - even - normal * along) * inverse);
        gw[start + j] = T(A(g[start + j]) * normal);
    }
}

// x is (outer, channels, inner). One block a channel: k counts its elements, FW_AT says where they are.
#define FW_AT(k) ((((k) / inner) * gridDim.x + blockIdx.x) * inner + (k) % inner)

extern "C" __global__ void fw_batch_norm(
    const T* x, const T* weight, const T* bias, T* y, T* means, T* variances, index_t outer, index_t inner, double eps
) {
    const index_t n = outer * inner, c = blockIdx.x;
    A total = A(0);
    FW_EACH_OF_BLOCK(k, n) total += A(x[FW_AT(k)]);
    const A mean = fw_block_sum(total) / A(n);
    total = A(0);
    FW_EACH_OF_BLOCK(k, n) total += (A(x[FW_AT(k)]) - mean) * (A(x[FW_AT(k)]) - mean);
    const A variance = fw_block_sum(total) / A(n);
    const A scale = A(1) / sqrt(variance + A(eps)) * (weight ? A(weight[c]) : A(1));
    const A shift = bias ? A(bias[c]) : A(0);
    FW_EACH_OF_BLOCK(k, n) y[FW_AT(k)] = T((A(x[FW_AT(k)]) - mean) * scale + shift);
    if (threadIdx.x == 0) {
        means[c] = T(mean);
        variances[c] = T(variance);
    }
}

extern "C" __global__ void fw_batch_norm_grad(
    const T* g, const T* x, const T* means, const T* inverses, const T* weight, T* gx, T* gw, T* gb,
    index_t outer, index_t inner
) {
    const index_t n = outer * inner, c = blockIdx.x;
    const A mean = A(means[c]), inverse = A(inverses[c]);
    A even = A(0), along = A(0);
    FW_EACH_OF_BLOCK(k, n) {
        even += A(g[FW_AT(k)]);
        along += A(g[FW_AT(k)]) * (A(x[FW_AT(k)]) - mean);
    }
    even = fw_block_sum(even);
    along = fw_block_sum(along) * inverse;
    const A scale = inverse * (weight ? A(weight[c]) : A(1));
    FW_EACH_OF_BLOCK(k, n) {
        const A centered = A(x[FW_AT(k)]) - mean;
        gx[FW_AT(k)] = T((A(g[FW_AT(k)]) - even / A(n) - centered * (along * inverse / A(n))) * scale);
    }
    if (threadIdx.x == 0) {
        gw[c] = T(along);
        gb[c] = T(even);
    }
}
