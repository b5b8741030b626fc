// Activations, alone and with the bias of the layer before.

extern "C" __global__ void fw_relu(const T* x, T* y, index_t n) {
    FW_EACH(i, n) {
        const A v = A(x[i]);
        y[i] = T(v <= A(0) ? A(0) : v);  // NaN passes
    }
}

extern "C" __global__ void fw_relu_grad(const T* g, const T* out, T* y, index_t n) {
    FW_EACH(i, n) y[i] = A(out[i]) > A(0) ? g[i] : T(A(0));
}

// x (rows, width) + bias (width), and then max(., 0) where `relu`; y may be x.
extern "C" __global__ void fw_bias(const T* x, const T* bias, T* y, index_t n, index_t width, int relu) {
    FW_EACH(i, n) {
        const A v = A(x[i]) + A(bias[i % width]);
        y[i] = T(relu && v <= A(0) ? A(0) : v);
    }
}

// x · Φ(x), Φ the normal distribution function, and its slope, Φ(x) + x · φ(x).
extern "C" __global__ void fw_gelu(const T* x, T* y, T* slope, index_t n) {
    FW_EACH(i, n) {
        const A v = A(x[i]);
        const A share = (A(erf(v * A(0.7071067811865476))) + A(1)) * A(0.5);
        y[i] = T(v * share);
        slope[i] = T(share + v * A(exp(v * v * A(-0.5))) * A(0.3989422804014327));
    }
}
