// Numbers from a counter: SplitMix64 (Steele, Lea & Flood 2014), bit for bit the host generator's.

inline __device__ unsigned long long fw_bits(unsigned long long key, unsigned long long position) {
    unsigned long long x = key + (position + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// One where a number from 0 to 1, of 53 bits, is below p; else zero. `limit` is p · 2^53, rounded up.
extern "C" __global__ void fw_bernoulli(
    T* y, index_t n, unsigned long long key, unsigned long long counter, unsigned long long limit
) {
    FW_EACH(i, n) y[i] = T((fw_bits(key, counter + i) >> 11) < limit ? A(1) : A(0));
}
