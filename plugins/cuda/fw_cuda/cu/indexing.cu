// The gradient of an embedding: rows of g (n, width) added to rows of y (rows, width), which `indices` name.

// One block a row of y, which looks at all indices: the same sum in the same order each time, and y need not be zero.
extern "C" __global__ void fw_embedding_grad(
    const T* g, const I* indices, T* y, index_t n, index_t width, index_t padding
) {
    const index_t row = blockIdx.x;
    FW_EACH_OF_BLOCK(j, width) {
        A total = A(0);
        if (row != padding)
            for (index_t k = 0; k < n; ++k)
                if (index_t(indices[k]) == row) total += A(g[k * width + j]);
        y[row * width + j] = T(total);
    }
}

// By atomic additions to zeros: for many rows, in an order that is not fixed.
extern "C" __global__ void fw_embedding_grad_atomic(
    const T* g, const I* indices, T* y, index_t n, index_t width, index_t padding
) {
    FW_EACH(i, n * width) {
        const index_t row = indices[i / width];
        if (row != padding) atomicAdd(y + row * width + i % width, g[i]);
    }
}
