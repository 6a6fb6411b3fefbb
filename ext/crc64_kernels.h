/* CRC-64/XZ kernels: polynomial 0x42F0E1EBA9EA3693, reflected, initial value and final XOR all ones.
 *
 * Contract of every kernel
 *   - jindo_crc64_fn(crc, data, size) is the CRC of the bytes whose CRC is `crc` (0: none) followed by `data`.
 *   - All kernels return the same value for the same input; the scalar one is the reference.
 *   - Any alignment and any size, 0 included (`data` may then be NULL).  No byte outside [data, data + size) is read.
 *   - Reentrant, no allocation, no errors.  jindo_crc64_init() must have run once before, in one thread.
 *   - A kernel may be called only where its `usable` says so: it uses instructions others lack.
 */
#ifndef JINDOPY_CRC64_KERNELS_H
#define JINDOPY_CRC64_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t (*jindo_crc64_fn)(uint64_t crc, const void *data, size_t size);

struct jindo_crc64_kernel {
    const char *name;
    jindo_crc64_fn update;
    int usable; /* this CPU has the instructions and the system saves their registers */
};

/* Compute the tables and ask the CPU; harmless when repeated. */
void jindo_crc64_init(void);

/* All kernels compiled in, slowest first, scalar always among them; `*count` receives how many. */
const struct jindo_crc64_kernel *jindo_crc64_kernels(size_t *count);

/* CRC of two pieces joined, from the CRC of each and the size of the second. */
uint64_t jindo_crc64_combine(uint64_t first, uint64_t second, uint64_t second_bytes);

#endif
