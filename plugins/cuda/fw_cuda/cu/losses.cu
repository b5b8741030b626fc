// Softmax cross-entropy, forward and backward, and sums.

// One block a row of `classes` logits: probabilities p, and the loss of each row.
extern "C" __global__ void fw_xent(const T* logits, const I* targets, T* p, T* losses, index_t classes) {
    const index_t row = blockIdx.x;
    const T* z = logits + row * classes;
    A most = A(z[0]);
    FW_EACH_OF_BLOCK(c, classes) most = A(z[c]) > most ? A(z[c]) : most;
    most = fw_block_max(most);
    A total = A(0);
    FW_EACH_OF_BLOCK(c, classes) total += exp(A(z[c]) - most);
    total = fw_block_sum(total);
    FW_EACH_OF_BLOCK(c, classes) p[row * classes + c] = T(exp(A(z[c]) - most) / total);
    if (threadIdx.x == 0) losses[row] = T(log(total) - (A(z[targets[row]]) - most));
}

// (p - one_hot(targets)) * g, g one number or, where `per_row`, one for each row.
extern "C" __global__ void fw_xent_grad(
    const T* p, const I* targets, const T* g, T* y, index_t n, index_t classes, int per_row
) {
    FW_EACH(i, n) {
        const index_t row = i / classes;
        const A v = A(p[i]) - (index_t(targets[row]) == i - row * classes ? A(1) : A(0));
        y[i] = T(v * A(g[per_row ? row : 0]));
    }
}

// By one block: the sum of n numbers, times `factor`.
extern "C" __global__ void fw_total(const T* x, T* y, index_t n, double factor) {
    A total = A(0);
    FW_EACH_OF_BLOCK(i, n) total += A(x[i]);
    total = fw_block_sum(total);
    if (threadIdx.x == 0) y[0] = T(total * A(factor));
}

// Each block's part of the sum of squares; `fw_total_of_parts` adds the parts up, in the same order each time.
extern "C" __global__ void fw_squares(const T* x, A* parts, index_t n) {
    A total = A(0);
    FW_EACH(i, n) total += A(x[i]) * A(x[i]);
    total = fw_block_sum(total);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

// The same of pieces of x: for each block, `blocks` has the piece's beginning and length, the block's number, and of how many.
extern "C" __global__ void fw_squares_of_pieces(const T* x, A* parts, const index_t* blocks) {
    const index_t* own = blocks + 4 * (index_t)blockIdx.x;
    const T* piece = x + own[0];
    A total = A(0);
    for (index_t i = own[2] * blockDim.x + threadIdx.x; i < own[1]; i += own[3] * blockDim.x)
        total += A(piece[i]) * A(piece[i]);
    total = fw_block_sum(total);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

// A block for each piece: the sum of its parts, from `firsts[piece]` to before the next.
extern "C" __global__ void fw_totals_of_pieces(const A* parts, T* totals, const index_t* firsts) {
    const index_t first = firsts[blockIdx.x], n = firsts[blockIdx.x + 1] - first;
    A total = A(0);
    FW_EACH_OF_BLOCK(i, n) total += parts[first + i];
    total = fw_block_sum(total);
    if (threadIdx.x == 0) totals[blockIdx.x] = T(total);
}

// Few numbers, one after the other, behind the one before (if not null); each sum is rounded.
extern "C" __global__ void fw_sum_in_order(const T* before, const T* x, T* y, index_t n) {
    if (blockIdx.x + threadIdx.x) return;
    T total = before ? T(A(before[0]) + A(x[0])) : x[0];
    for (index_t i = 1; i < n; ++i) total = T(A(total) + A(x[i]));
    y[0] = total;
}

// Whether the sum of squares, the loss (if not null) and all before (if not null) are finite, and how many were so far.
extern "C" __global__ void fw_latch(
    const T* squares, const T* loss, const bool* before, const int* good, bool* ok, int* count
) {
    if (blockIdx.x + threadIdx.x) return;
    const A s = A(squares[0]), l = loss ? A(loss[0]) : A(0);
    const bool holds = s - s == A(0) && l - l == A(0) && (!before || *before);  // of infinities and NaN it is NaN
    *ok = holds;
    *count = *good + (holds ? 1 : 0);
}

extern "C" __global__ void fw_total_of_parts(const A* parts, T* y, index_t n) {
    A total = A(0);
    FW_EACH_OF_BLOCK(i, n) total += parts[i];
    total = fw_block_sum(total);
    if (threadIdx.x == 0) y[0] = T(total);
}
