/*
 * A compute library without GPUs: device memory is the host's, and the four kernels are done here in C. Faults are
 * built in where real ones arise, by GPU and beginning after so many launches (`0.after 9`):
 *   stuck N   bit 5 of the 64-bit word N cannot be set        lie 1     fills and compares with another pattern
 *   short 1   looks at half of the memory only                copy 1    copies inside the device go wrong
 *   math T    thread T calculates wrongly the second time     both 1    every thread calculates wrongly, twice
 *   fail N    launches fail with the error N                  hang 1    launches never end
 *   across 1  what comes back over the bus is wrong
 */
#define _GNU_SOURCE
#include "capture.h"
#include <math.h>
#include <stdint.h>

enum { INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 101 };
enum { GPUS = 16, FILL = 1, VERIFY, FLOAT, INTEGER };

static __thread int current = -1;
static uint64_t used[GPUS], launches[GPUS];
static struct { uint64_t address, bytes; int gpu; } blocks[4096];
static int block_count;

static int fault(const char *name, uint64_t *value) {
    unsigned long long told_value = 0;
    if (launches[current] <= number_or(current, "after", 0)) return 0;
    if (number(current, name, &told_value, 1) != 0) return 0;
    *value = told_value;
    return 1;
}

int cuInit(unsigned flags) { unsigned long long none; (void)flags; return number(-1, "cuda", &none, 0); }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuGetErrorName(int status, const char **name) {
    static const struct { int code; const char *name; } names[] = {
        {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"},
        {214, "CUDA_ERROR_ECC_UNCORRECTABLE"}, {719, "CUDA_ERROR_LAUNCH_FAILED"}, {802, "CUDA_ERROR_SYSTEM_NOT_READY"},
    };
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (names[at].code == status) { *name = names[at].name; return 0; }
    *name = NULL;
    return INVALID;
}
int cuDeviceGetCount(int *count) { *count = (int)number_or(-1, "count", 0); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetPCIBusId(char *out, int size, int device) {
    char bus[64];
    if (!told(device, "bus", bus, sizeof bus)) return NO_DEVICE;
    snprintf(out, (size_t)size, "%s", bus + (strlen(bus) > 12 ? strlen(bus) - 12 : 0));
    return 0;
}
int cuDeviceGetAttribute(int *out, int what, int device) {
    *out = (int)number_or(device, what == 16 ? "processors" : "threads", what == 16 ? 2 : 512);
    return 0;
}
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { (void)device; (void)flags; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    unsigned long long none;
    *context = (void *)(long)(device + 1);
    return number(device, "open", &none, 0);
}
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return 0; }
int cuCtxSetCurrent(void *context) { current = (int)(long)context - 1; return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuModuleLoadData(void **module, const void *image) {
    unsigned long long none;
    *module = (void *)1;
    if (!strstr(image, ".entry assay_verify(") || !strstr(image, ".target sm_50")) return 218;
    return number(current, "translate", &none, 0);
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    static const char *names[] = {"", "assay_fill", "assay_verify", "assay_float", "assay_integer"};
    (void)module;
    for (long kind = FILL; kind <= INTEGER; kind++)
        if (strcmp(name, names[kind]) == 0) { *function = (void *)kind; return 0; }
    return 500;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = number_or(current, "free", 32 << 20);
    *free_bytes = *total - used[current];
    return 0;
}
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    size_t free_bytes, total;
    cuMemGetInfo_v2(&free_bytes, &total);
    if (bytes > free_bytes || block_count == 4096) return OUT_OF_MEMORY;
    void *memory = calloc(1, bytes);
    if (!memory) return OUT_OF_MEMORY;
    used[current] += bytes;
    int slot = __sync_fetch_and_add(&block_count, 1);
    blocks[slot].gpu = current;
    blocks[slot].bytes = bytes;
    blocks[slot].address = *address = (uint64_t)memory;
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    for (int slot = 0; slot < block_count; slot++) {
        if (blocks[slot].address != address) continue;
        used[blocks[slot].gpu] -= blocks[slot].bytes;
        blocks[slot].address = 0;
        free((void *)address);
        return 0;
    }
    return INVALID;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    uint64_t none;
    memcpy(to, (void *)from, bytes);
    if (bytes > 1 << 16 && fault("across", &none)) ((uint8_t *)to)[100] ^= 1;
    return 0;
}
int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
    uint64_t none;
    memcpy((void *)to, (void *)from, bytes);
    if (fault("copy", &none)) ((uint64_t *)to)[3] ^= 1;
    return 0;
}

static uint64_t word(uint64_t index, uint64_t seed, uint64_t flip) {
    uint64_t x = (index + seed) * 0x9E3779B97F4A7C15u;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    return x ^ (x >> 29) ^ flip;
}

static uint32_t begin(uint32_t id, uint32_t chain, uint32_t seed) {
    uint32_t x = ((id * 4 + chain) ^ seed) * 0x85EBCA6Bu;
    return (x ^ (x >> 15)) * 0xC2B2AE35u;
}

static uint32_t calculate(int kind, uint32_t id, uint32_t rounds, uint32_t seed) {
    uint32_t sums[4] = {1, 2, 3, 4}, integers[4], bits;
    float floats[4];
    for (uint32_t chain = 0; chain < 4; chain++) {
        integers[chain] = begin(id, chain, seed);
        bits = integers[chain] >> 9 | 0x3F800000u;
        memcpy(&floats[chain], &bits, 4);
        floats[chain] = fmaf(floats[chain] - 1.0f, 0.5f, 0.25f);
    }
    for (uint32_t round = 0; round < rounds; round++)
        for (int chain = 0; chain < 4; chain++) {
            for (int step = 0; step < 8; step++) {
                floats[chain] = fmaf(fmaf(-floats[chain], floats[chain], floats[chain]), 3.9f, 0.0001f);
                integers[chain] ^= integers[chain] >> 15;
                integers[chain] = integers[chain] * 1664525u + 1013904223u;
            }
            memcpy(&bits, &floats[chain], 4);
            sums[chain] = sums[chain] * 0x01000193u + (kind == FLOAT ? bits : integers[chain]);
        }
    uint32_t sum = sums[0];
    for (int chain = 1; chain < 4; chain++) sum = sum * 0x01000193u + sums[chain];
    return sum;
}

static void report(uint64_t *at, uint64_t index, uint64_t bits) {
    at[0]++;
    if (index < at[1]) at[1] = index;
    at[2] |= bits;
}

static void memory(int kind, uint64_t **p) {
    uint64_t *base = (uint64_t *)*p[0], words = *p[1], first = *p[2], seed = *p[3], flip = *p[4];
    uint64_t *out = (uint64_t *)*p[5], value;
    if (fault("lie", &value)) seed++;
    if (kind == VERIFY && fault("short", &value)) words /= 2;
    for (uint64_t index = 0; index < words; index++) {
        uint64_t expected = word(first + index, seed, flip);
        if (kind == FILL) base[index] = expected;
        else if (base[index] != expected) report(out, first + index, base[index] ^ expected);
    }
    if (kind == VERIFY) out[3] += words;
    if (kind == FILL && fault("stuck", &value) && value >= first && value < first + words)
        base[value - first] &= ~(uint64_t)32;
}

static void arithmetic(int kind, uint64_t **p) {
    uint32_t *results = (uint32_t *)*p[0];
    uint64_t threads = *p[4], *out = (uint64_t *)*p[5], wrong, none;
    int both = fault("both", &none), math = fault("math", &wrong);
    for (uint64_t id = 0; id < threads; id++) {
        uint32_t result = calculate(kind, (uint32_t)id, (uint32_t)*p[1], (uint32_t)*p[2]);
        if (both) result ^= 1;
        if (!(*p[3] & 1)) { results[id] = result; continue; }
        if (math && wrong == id) result ^= 4;
        if (results[id] != result) report(out, id, results[id] ^ result);
        out[3]++;
    }
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    char path[4096];
    uint64_t value;
    (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared; (void)stream; (void)extra;
    launches[current]++;
    beside(path, sizeof path, "busy");
    FILE *busy = fopen(path, "w");
    if (busy) fclose(busy);
    if (fault("fail", &value)) return (int)value;
    while (fault("hang", &value)) pause();
    int kind = (int)(long)function;
    (kind <= VERIFY ? memory : arithmetic)(kind, (uint64_t **)parameters);
    return 0;
}
