// In front of every file. Given by -D: what T, A and I stand for. Types, not macros: CUDA's headers have a T, too.
#ifdef FW_HALF
#include <cuda_fp16.h>
#endif
#ifdef FW_BFLOAT
#include <cuda_bf16.h>
#endif

typedef FW_T T;  // of the arrays
typedef FW_A A;  // of arithmetic, at least as precise
typedef FW_I I;  // of indices, or of data that are gathered
typedef long long index_t;

// Threads of a block that works on one row or channel: a power of two.
#define FW_THREADS 256

// Every i from 0 to n - 1, each by one thread of the grid.
#define FW_EACH(i, n)                                                                  \
    for (index_t i = blockIdx.x * (index_t)blockDim.x + threadIdx.x; i < (n); i += (index_t)gridDim.x * blockDim.x)

// Every i from 0 to n - 1, each by one thread of the block.
#define FW_EACH_OF_BLOCK(i, n) for (index_t i = threadIdx.x; i < (n); i += blockDim.x)

// The sum, or the largest, of what the threads of a block have; the same for all, and in the same order each time.
#define FW_REDUCTION(name, combined)                                                   \
    inline __device__ A name(A x) {                                                    \
        __shared__ A part[FW_THREADS];                                                 \
        __syncthreads();                                                               \
        part[threadIdx.x] = x;                                                         \
        __syncthreads();                                                               \
        for (unsigned apart = blockDim.x / 2; apart > 0; apart /= 2) {                 \
            if (threadIdx.x < apart) {                                                 \
                const A a = part[threadIdx.x], b = part[threadIdx.x + apart];          \
                part[threadIdx.x] = combined;                                          \
            }                                                                          \
            __syncthreads();                                                           \
        }                                                                              \
        return part[0];                                                                \
    }

FW_REDUCTION(fw_block_sum, a + b)
FW_REDUCTION(fw_block_max, a > b ? a : b)

// A product or a sum that is rounded by itself, never contracted with another.
inline __device__ float fw_multiply_rounded(float a, float b) { return __fmul_rn(a, b); }
inline __device__ double fw_multiply_rounded(double a, double b) { return __dmul_rn(a, b); }
inline __device__ float fw_add_rounded(float a, float b) { return __fadd_rn(a, b); }
inline __device__ double fw_add_rounded(double a, double b) { return __dadd_rn(a, b); }
