// Batches of a dataset that is kept on the device.

// One array of the dataset, and where its rows lie in a batch; the host writes numbers of eight bytes.
struct FwPart {
    const void* rows;
    index_t place;   // of its first row in the batch, in bytes
    index_t width;   // elements of a row
    index_t size;    // bytes of an element that is copied: 1, 2, 4 or 8
    const T* factor; // none if elements are copied; else they are I, and T in the batch
    const T* offset;
    index_t inner;   // elements of a row in a channel
    index_t channels;
};

template <class E>
inline __device__ void fw_copy(unsigned char* to, index_t i, const void* from, index_t j) {
    ((E*)to)[i] = ((const E*)from)[j];
}

// Row k of each part is row order[start + k] of its array: as it is, or times a factor and plus an offset for its
// channel, rounded twice, as the host does. `width` is that of all parts together.
extern "C" __global__ void fw_gather(
    unsigned char* batch, const FwPart* parts, index_t width, const long long* order, index_t start, index_t n
) {
    FW_EACH(i, n * width) {
        const index_t row = i / width;
        index_t j = i % width;
        const FwPart* part = parts;
        for (; j >= part->width; ++part) j -= part->width;
        const index_t from = order[start + row] * part->width + j, to = row * part->width + j;
        unsigned char* place = batch + part->place;
        if (part->factor) {
            const index_t c = part->channels > 1 ? j / part->inner % part->channels : 0;
            const A v = A(((const I*)part->rows)[from]);
            ((T*)place)[to] = T(fw_add_rounded(fw_multiply_rounded(v, A(part->factor[c])), A(part->offset[c])));
        } else if (part->size == 8) {
            fw_copy<long long>(place, to, part->rows, from);
        } else if (part->size == 4) {
            fw_copy<int>(place, to, part->rows, from);
        } else if (part->size == 2) {
            fw_copy<short>(place, to, part->rows, from);
        } else {
            fw_copy<char>(place, to, part->rows, from);
        }
    }
}
