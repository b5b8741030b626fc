// Updates of optimizers, in place, one launch for all parameters that lie side by side. Where `apply` is not null and
// false, nothing is updated. Where `numbers` is not null, it holds what else would be arguments: in a graph these are
// constants, and rates are not.

// mode 0 is without momentum, 1 the first step with it, 2 a later one.
extern "C" __global__ void fw_sgd(
    T* p, const T* g, T* v, const bool* apply, index_t n, double lr, double momentum, double kept,
    double weight_decay, int nesterov, int mode, const double* numbers
) {
    if (apply && !*apply) {
        if (mode == 1) FW_EACH(i, n) v[i] = T(A(0));  // it would have begun with this step
        return;
    }
    if (numbers) {
        lr = numbers[0], momentum = numbers[1], kept = numbers[2];
        if (weight_decay != 0.0) weight_decay = numbers[3];
    }
    const A rate = A(lr), decay = A(weight_decay), m = A(momentum), k = A(kept);
    FW_EACH(i, n) {
        const A before = A(p[i]);
        A d = weight_decay != 0.0 ? A(g[i]) + decay * before : A(g[i]);
        if (mode) {
            const A velocity = mode == 1 ? d : m * A(v[i]) + k * d;
            v[i] = T(velocity);
            d = nesterov ? d + m * velocity : velocity;
        }
        p[i] = T(before - rate * d);
    }
}

// rate is lr / (1 - b1^step), root is sqrt(1 - b2^step); l2 goes into the gradient, shrink off the parameter.
extern "C" __global__ void fw_adam(
    T* p, const T* g, T* m, T* v, const bool* apply, index_t n, double rate, double b1, double b2, double root, double eps, double l2,
    double shrink, const double* numbers
) {
    if (apply && !*apply) return;
    if (numbers) {
        rate = numbers[0], b1 = numbers[1], b2 = numbers[3], root = numbers[5], eps = numbers[6];
        if (l2 != 0.0) l2 = numbers[7];
        if (shrink != 0.0) shrink = numbers[7];
    }
    const A keep = A(b1), take = A(1.0 - b1), keep2 = A(b2), take2 = A(1.0 - b2);
    FW_EACH(i, n) {
        A q = A(p[i]);
        const A d = l2 != 0.0 ? A(g[i]) + A(l2) * q : A(g[i]);
        q -= A(shrink) * q;
        const A mean = keep * A(m[i]) + take * d, square = keep2 * A(v[i]) + take2 * (d * d);
        m[i] = T(mean);
        v[i] = T(square);
        p[i] = T(q - A(rate) * (mean / (sqrt(square) / A(root) + A(eps))));
    }
}

extern "C" __global__ void fw_rprop(
    T* p, const T* g, T* previous, T* steps, const bool* apply, index_t n, double down, double up, double least, double most,
    const double* numbers
) {
    if (apply && !*apply) return;
    if (numbers) down = numbers[0], up = numbers[1], least = numbers[2], most = numbers[3];
    FW_EACH(i, n) {
        const A agree = A(g[i]) * A(previous[i]);
        A step = A(steps[i]) * (agree > A(0) ? A(up) : agree < A(0) ? A(down) : A(1));
        step = step < A(least) ? A(least) : step > A(most) ? A(most) : step;
        const A d = agree < A(0) ? A(0) : A(g[i]);
        p[i] = T(A(p[i]) - (d > A(0) ? step : d < A(0) ? -step : d * A(0)));  // NaN passes
        previous[i] = T(d);
        steps[i] = T(step);
    }
}

// Clipping by the norm of all gradients, whose square is given: g times limit / (norm + rounding), but not more than 1.
extern "C" __global__ void fw_scaled_to_norm(
    T* g, const T* squares, const bool* ok, index_t n, double limit, double rounding
) {
    if (!*ok) return;
    const A factor = A(limit) / (sqrt(A(squares[0])) + A(rounding));
    if (factor >= A(1)) return;
    FW_EACH(i, n) g[i] = T(A(g[i]) * factor);
}
