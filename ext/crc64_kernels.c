/* CRC-64/XZ by table lookup and by carry-less multiplication.  Contract: crc64_kernels.h.
 *
 * Notation.  A message is a polynomial over GF(2), its first bit the highest power.  Everything here is *reflected*: in
 * a word loaded little-endian, bit 0 is the highest power.  The CRC is message * x^64 mod P.
 *
 * Folding.  16 bytes in a register are L * x^64 + H, L being the low (earlier) half.  To move them D bits further into
 * the message they are multiplied by x^D, which is replaced by smaller things equal to it mod P:
 *     L * (x^(D+64) mod P) + H * (x^D mod P)
 * two 64x64 carry-less products whose sum fits the register again and is added (XOR) to the 16 bytes found there.  Of
 * reflected operands the instruction returns the product divided by x, hence exponents D+63 and D-1.  Several
 * accumulators are folded side by side because one product takes longer than the next can be started.  In the end one
 * register is left, as 16 bytes that are equal to the whole message mod P: their CRC is taken by table.
 */
#include "crc64_kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_PCLMUL 1
#elif defined(__aarch64__) && defined(__linux__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define HAVE_PMULL 1
#endif

#define POLY_REFLECTED 0xC96C5795D7870F42u
#define X_POWER_0 0x8000000000000000u /* the polynomial 1 */

/* Bytes the scalar kernel takes at a time: 16 KiB of tables, half the first-level cache of common CPUs. */
#define SLICES 8

/* Multipliers that move a register `bytes` further; in order of use by 16-byte load: for L, then for H. */
struct fold {
    uint64_t low;
    uint64_t high;
};

static uint64_t slice_table[SLICES][256];
static uint64_t power_table[64 + 3]; /* x^(2^k): bit counts of up to 2^64 bytes */
static struct fold fold_16, fold_32, fold_48, fold_64, fold_128, fold_256, fold_512;

/* a * b mod P */
static uint64_t multiply(uint64_t a, uint64_t b) {
    uint64_t product = 0;
    for (; a; a <<= 1) {
        if (a & X_POWER_0)
            product ^= b;
        b = (b >> 1) ^ ((b & 1) ? POLY_REFLECTED : 0);
    }
    return product;
}

/* x^(n * 2^shift) mod P */
static uint64_t x_power(uint64_t n, unsigned shift) {
    uint64_t result = X_POWER_0;
    for (; n; n >>= 1, shift++)
        if (n & 1)
            result = multiply(power_table[shift], result);
    return result;
}

uint64_t jindo_crc64_combine(uint64_t first, uint64_t second, uint64_t second_bytes) {
    return multiply(first, x_power(second_bytes, 3)) ^ second;
}

/* ---- scalar -------------------------------------------------------------------------------------------------- */

static inline uint64_t load_le64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The bare remainder: no inversion before and after. */
static uint64_t remainder_scalar(uint64_t state, const uint8_t *p, size_t size) {
    for (; size >= SLICES; p += SLICES, size -= SLICES) {
        uint64_t word = state ^ load_le64(p);
        state = 0;
        for (int i = 0; i < SLICES; i++)
            state ^= slice_table[SLICES - 1 - i][(word >> (8 * i)) & 0xFF];
    }
    for (; size; p++, size--)
        state = (state >> 8) ^ slice_table[0][(state ^ *p) & 0xFF];
    return state;
}

static uint64_t crc64_scalar(uint64_t crc, const void *data, size_t size) {
    return ~remainder_scalar(~crc, data, size);
}

/* ---- x86-64 -------------------------------------------------------------------------------------------------- */

#if HAVE_PCLMUL

#define TARGET_128 __attribute__((target("sse2,pclmul")))
#define TARGET_256 __attribute__((target("avx2,pclmul,vpclmulqdq")))
#define TARGET_512 __attribute__((target("avx512f,pclmul,vpclmulqdq")))

TARGET_128 static inline __m128i load_fold_128(const struct fold *f) {
    return _mm_loadu_si128((const __m128i *)f);
}

/* value moved onto `data` */
TARGET_128 static inline __m128i fold_128_onto(__m128i value, __m128i by, __m128i data) {
    return _mm_xor_si128(data, _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11)));
}

/* Fold what is left by 16 bytes, then finish by table. */
TARGET_128 static inline uint64_t finish_128(__m128i value, const uint8_t *p, size_t size) {
    const __m128i by = load_fold_128(&fold_16);
    uint8_t last[16];
    for (; size >= 16; p += 16, size -= 16)
        value = fold_128_onto(value, by, _mm_loadu_si128((const __m128i *)p));
    _mm_storeu_si128((__m128i *)last, value);
    return ~remainder_scalar(remainder_scalar(0, last, sizeof last), p, size);
}

TARGET_128 static uint64_t crc64_pclmul(uint64_t crc, const void *data, size_t size) {
    enum { LANES = 8, STEP = 16 * LANES };
    const uint8_t *p = data;
    __m128i value[LANES];

    if (size < 32)
        return crc64_scalar(crc, data, size);
    if (size < STEP) {
        value[0] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_cvtsi64_si128((long long)~crc));
        return finish_128(value[0], p + 16, size - 16);
    }
    for (int i = 0; i < LANES; i++)
        value[i] = _mm_loadu_si128((const __m128i *)p + i);
    value[0] = _mm_xor_si128(value[0], _mm_cvtsi64_si128((long long)~crc));

    const __m128i by_step = load_fold_128(&fold_128);
    for (p += STEP, size -= STEP; size >= STEP; p += STEP, size -= STEP)
        for (int i = 0; i < LANES; i++)
            value[i] = fold_128_onto(value[i], by_step, _mm_loadu_si128((const __m128i *)p + i));

    const __m128i by_16 = load_fold_128(&fold_16);
    for (int i = 1; i < LANES; i++)
        value[i] = fold_128_onto(value[i - 1], by_16, value[i]);
    return finish_128(value[LANES - 1], p, size);
}

TARGET_256 static inline __m256i fold_256_onto(__m256i value, __m256i by, __m256i data) {
    __m256i low = _mm256_clmulepi64_epi128(value, by, 0x00), high = _mm256_clmulepi64_epi128(value, by, 0x11);
    return _mm256_xor_si256(data, _mm256_xor_si256(low, high));
}

TARGET_256 static uint64_t crc64_vpclmul256(uint64_t crc, const void *data, size_t size) {
    enum { LANES = 8, STEP = 32 * LANES };
    const uint8_t *p = data;
    __m256i value[LANES];

    if (size < STEP)
        return crc64_pclmul(crc, data, size);
    for (int i = 0; i < LANES; i++)
        value[i] = _mm256_loadu_si256((const __m256i *)p + i);
    value[0] = _mm256_xor_si256(value[0], _mm256_zextsi128_si256(_mm_cvtsi64_si128((long long)~crc)));

    const __m256i by_step = _mm256_broadcastsi128_si256(load_fold_128(&fold_256));
    for (p += STEP, size -= STEP; size >= STEP; p += STEP, size -= STEP)
        for (int i = 0; i < LANES; i++)
            value[i] = fold_256_onto(value[i], by_step, _mm256_loadu_si256((const __m256i *)p + i));

    const __m256i by_32 = _mm256_broadcastsi128_si256(load_fold_128(&fold_32));
    for (int i = 1; i < LANES; i++)
        value[i] = fold_256_onto(value[i - 1], by_32, value[i]);
    __m128i first = _mm256_castsi256_si128(value[LANES - 1]), second = _mm256_extracti128_si256(value[LANES - 1], 1);
    return finish_128(fold_128_onto(first, load_fold_128(&fold_16), second), p, size);
}

TARGET_512 static inline __m512i fold_512_onto(__m512i value, __m512i by, __m512i data) {
    __m512i low = _mm512_clmulepi64_epi128(value, by, 0x00), high = _mm512_clmulepi64_epi128(value, by, 0x11);
    return _mm512_ternarylogic_epi64(data, low, high, 0x96); /* XOR of all three */
}

TARGET_512 static uint64_t crc64_vpclmul512(uint64_t crc, const void *data, size_t size) {
    enum { LANES = 8, STEP = 64 * LANES };
    const uint8_t *p = data;
    __m512i value[LANES];

    if (size < STEP)
        return crc64_vpclmul256(crc, data, size);
    for (int i = 0; i < LANES; i++)
        value[i] = _mm512_loadu_si512((const __m512i *)p + i);
    value[0] = _mm512_xor_si512(value[0], _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)~crc)));

    const __m512i by_step = _mm512_broadcast_i32x4(load_fold_128(&fold_512));
    for (p += STEP, size -= STEP; size >= STEP; p += STEP, size -= STEP)
        for (int i = 0; i < LANES; i++)
            value[i] = fold_512_onto(value[i], by_step, _mm512_loadu_si512((const __m512i *)p + i));

    const __m512i by_64 = _mm512_broadcast_i32x4(load_fold_128(&fold_64));
    for (int i = 1; i < LANES; i++)
        value[i] = fold_512_onto(value[i - 1], by_64, value[i]);
    const __m512i all = value[LANES - 1];
    __m128i joined = _mm512_extracti32x4_epi32(all, 3);
    joined = fold_128_onto(_mm512_extracti32x4_epi32(all, 2), load_fold_128(&fold_16), joined);
    joined = fold_128_onto(_mm512_extracti32x4_epi32(all, 1), load_fold_128(&fold_32), joined);
    joined = fold_128_onto(_mm512_castsi512_si128(all), load_fold_128(&fold_48), joined);
    return finish_128(joined, p, size);
}

#endif

/* ---- aarch64 ------------------------------------------------------------------------------------------------- */

#if HAVE_PMULL

#define TARGET_PMULL __attribute__((target("+crypto")))

TARGET_PMULL static inline uint64x2_t fold_pmull_onto(uint64x2_t value, uint64x2_t by, uint64x2_t data) {
    poly128_t low = vmull_p64((poly64_t)vgetq_lane_u64(value, 0), (poly64_t)vgetq_lane_u64(by, 0));
    poly128_t high = vmull_high_p64(vreinterpretq_p64_u64(value), vreinterpretq_p64_u64(by));
    return veorq_u64(data, veorq_u64(vreinterpretq_u64_p128(low), vreinterpretq_u64_p128(high)));
}

TARGET_PMULL static inline uint64x2_t load_pmull(const void *p) {
    return vreinterpretq_u64_u8(vld1q_u8(p));
}

TARGET_PMULL static uint64_t crc64_pmull(uint64_t crc, const void *data, size_t size) {
    enum { LANES = 8, STEP = 16 * LANES };
    const uint8_t *p = data;
    const uint64x2_t by_16 = load_pmull(&fold_16), by_step = load_pmull(&fold_128);
    const uint64x2_t start = vsetq_lane_u64(~crc, vdupq_n_u64(0), 0);
    uint64x2_t last;
    uint8_t last_bytes[16];

    if (size < 32)
        return crc64_scalar(crc, data, size);
    if (size < STEP) {
        last = veorq_u64(load_pmull(p), start);
        p += 16;
        size -= 16;
    } else {
        uint64x2_t value[LANES];
        for (int i = 0; i < LANES; i++)
            value[i] = load_pmull(p + 16 * i);
        value[0] = veorq_u64(value[0], start);
        for (p += STEP, size -= STEP; size >= STEP; p += STEP, size -= STEP)
            for (int i = 0; i < LANES; i++)
                value[i] = fold_pmull_onto(value[i], by_step, load_pmull(p + 16 * i));
        for (int i = 1; i < LANES; i++)
            value[i] = fold_pmull_onto(value[i - 1], by_16, value[i]);
        last = value[LANES - 1];
    }
    for (; size >= 16; p += 16, size -= 16)
        last = fold_pmull_onto(last, by_16, load_pmull(p));
    vst1q_u8(last_bytes, vreinterpretq_u8_u64(last));
    return ~remainder_scalar(remainder_scalar(0, last_bytes, sizeof last_bytes), p, size);
}

#endif

/* ---- choice -------------------------------------------------------------------------------------------------- */

/* Slowest first, as measured by bench/micro/crc64.py. */
static struct jindo_crc64_kernel kernels[] = {
    {"scalar", crc64_scalar, 1},
#if HAVE_PCLMUL
    {"pclmul", crc64_pclmul, 0},
    {"vpclmul256", crc64_vpclmul256, 0},
    {"vpclmul512", crc64_vpclmul512, 0},
#endif
#if HAVE_PMULL
    {"pmull", crc64_pmull, 0},
#endif
};

static struct fold fold_by(uint64_t bytes) {
    return (struct fold){.low = x_power(8 * bytes + 63, 0), .high = x_power(8 * bytes - 1, 0)};
}

void jindo_crc64_init(void) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t state = byte;
        for (int bit = 0; bit < 8; bit++)
            state = (state >> 1) ^ ((state & 1) ? POLY_REFLECTED : 0);
        slice_table[0][byte] = state;
    }
    for (int slice = 1; slice < SLICES; slice++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t before = slice_table[slice - 1][byte];
            slice_table[slice][byte] = (before >> 8) ^ slice_table[0][before & 0xFF];
        }

    power_table[0] = X_POWER_0 >> 1;
    for (size_t k = 1; k < sizeof power_table / sizeof *power_table; k++)
        power_table[k] = multiply(power_table[k - 1], power_table[k - 1]);
    fold_16 = fold_by(16);
    fold_32 = fold_by(32);
    fold_48 = fold_by(48);
    fold_64 = fold_by(64);
    fold_128 = fold_by(128);
    fold_256 = fold_by(256);
    fold_512 = fold_by(512);

    /* The compiler's run time asks cpuid and, for the wide registers, xgetbv whether the system saves them. */
#if HAVE_PCLMUL
    __builtin_cpu_init();
    kernels[1].usable = !!__builtin_cpu_supports("pclmul");
    kernels[2].usable = kernels[1].usable && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
    kernels[3].usable = kernels[2].usable && __builtin_cpu_supports("avx512f");
#endif
#if HAVE_PMULL
    kernels[1].usable = !!(getauxval(AT_HWCAP) & HWCAP_PMULL);
#endif
}

const struct jindo_crc64_kernel *jindo_crc64_kernels(size_t *count) {
    *count = sizeof kernels / sizeof *kernels;
    return kernels;
}
