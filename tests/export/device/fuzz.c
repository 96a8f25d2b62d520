/* Fuzz target over whole containers, for libFuzzer (clang -fsanitize=fuzzer) and AFL++ (its driver
   for the same function). Compile with TQW_IGNORE_CHECKSUMS, or no mutant gets past the first
   crc32; with REPLAY it is a program that runs the files it is given once each.

   The mutator changes one section at a time and writes the header anew around it, sizes and crc32s
   included, so that nearly every mutant reaches the code after the header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tqw.h"

enum { MAX_OUTPUT = 1 << 18, MAX_TENSORS = 64, SECTIONS = 5, MAX_INPUT = 1 << 16, HEADER = 44 };

static int put(void *user, uint64_t offset, const uint8_t *data, size_t size) {
    memcpy((uint8_t *)user + offset, data, size);
    return 0;
}

static int get(void *user, uint64_t offset, uint8_t *data, size_t size) {
    memcpy(data, (const uint8_t *)user + offset, size);
    return 0;
}

static void agree(int yes, const char *what) {
    if (yes) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void decode_all(tqw_file *file) {
    const size_t size = (size_t)file->output_bytes;
    uint8_t *out = malloc(size + 1), *parts = malloc(size + 1);
    const tqw_sink sink = {parts, put, get, NULL};
    const int error = tqw_decode(file, out, size, NULL, NULL);
    agree(tqw_decode_to(file, &sink) == error, "whole and parts end differently");
    if (!error) agree(!memcmp(out, parts, size), "whole and parts differ");
    for (uint32_t i = 0; i < file->tensors && !error; i++) {
        tqw_tensor info;
        agree(!tqw_tensor_info(file, i, &info), "a tensor has no description");
        agree(!tqw_decode_tensor(file, i, parts, (size_t)info.bytes),
              "a tensor does not decode alone");
        agree(!memcmp(parts, out + info.offset, (size_t)info.bytes), "a tensor differs");
    }
    free(out);
    free(parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const tqw_limits limits = {MAX_OUTPUT, MAX_TENSORS};
    static uint8_t *scratch;
    uint8_t *base = NULL;
    tqw_file file;
    if (!scratch) scratch = calloc(TQW_SCRATCH_BYTES, 1);
    if (tqw_open(&file, data, size, &limits, scratch, TQW_SCRATCH_BYTES)) return 0;
    if (file.needs_base && file.base_bytes <= MAX_OUTPUT) {
        base = malloc((size_t)file.base_bytes + 1);
        for (size_t i = 0; i < file.base_bytes; i++) base[i] = (uint8_t)(i * i >> 5);
        agree(!tqw_set_base(&file, base, (size_t)file.base_bytes), "a base is refused");
    }
    decode_all(&file);
    free(base);
    return 0;
}

#ifdef REPLAY
int main(int argc, char **argv) {
    static uint8_t data[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) return 2;
        const size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%d files\n", argc - 1);
    return 0;
}
#else
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static uint32_t crc32(const uint8_t *p, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (; size; size--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

typedef struct {
    uint8_t fixed[HEADER], data[SECTIONS][MAX_INPUT];
    uint64_t output;
    size_t size[SECTIONS];
} parsed;

static uint64_t read_varint(const uint8_t **p, const uint8_t *end) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) break;
    }
    return value;
}

static uint8_t *write_varint(uint8_t *p, uint64_t value) {
    for (; value > 127; value >>= 7) *p++ = (uint8_t)(value | 128);
    *p++ = (uint8_t)value;
    return p;
}

static int parse(parsed *file, const uint8_t *p, size_t size) {
    const uint8_t *end = p + size, *row, *data;
    if (size < HEADER + 6) return 0;
    memcpy(file->fixed, p, HEADER);
    p += HEADER;
    file->output = read_varint(&p, end);
    const unsigned count = p < end ? *p++ : 0;
    row = p;
    for (unsigned i = 0; i < count && p < end; i++) {
        p++;
        (void)read_varint(&p, end);
        p += 4;
    }
    if (p + 4 > end) return 0;
    data = p + 4;
    memset(file->size, 0, sizeof file->size);
    for (unsigned i = 0; i < count; i++) {
        const unsigned type = *row++ & 127u;
        const uint64_t part = read_varint(&row, end);
        row += 4;
        if (part > (size_t)(end - data) || part > MAX_INPUT) return 0;
        if (type >= 1 && type <= SECTIONS) {
            memcpy(file->data[type - 1], data, (size_t)part);
            file->size[type - 1] = (size_t)part;
        }
        data += part;
    }
    return 1;
}

static uint8_t *write_crc(uint8_t *p, const uint8_t *data, size_t size) {
    const uint32_t crc = crc32(data, size);
    for (unsigned k = 0; k < 4; k++) *p++ = (uint8_t)(crc >> 8 * k);
    return p;
}

/* Returns the size, 0 if the file does not fit. */
static size_t assemble(const parsed *file, uint8_t *out, size_t max_size) {
    uint8_t header[HEADER + 128], *p = header;
    unsigned count = 0;
    size_t total = 0;
    memcpy(p, file->fixed, HEADER);
    p = write_varint(p + HEADER, file->output);
    for (unsigned i = 0; i < SECTIONS; i++) count += file->size[i] > 0;
    *p++ = (uint8_t)count;
    for (unsigned i = 0; i < SECTIONS; i++) {
        if (!file->size[i]) continue;
        *p++ = (uint8_t)(0x80 | (i + 1));
        p = write_varint(p, file->size[i]);
        p = write_crc(p, file->data[i], file->size[i]);
        total += file->size[i];
    }
    p = write_crc(p, header, (size_t)(p - header));
    const size_t start = (size_t)(p - header);
    if (start + total > max_size) return 0;
    memcpy(out, header, start);
    out += start;
    for (unsigned i = 0; i < SECTIONS; i++) {
        memcpy(out, file->data[i], file->size[i]);
        out += file->size[i];
    }
    return start + total;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static parsed file;
    if (seed % 32 == 0 || !parse(&file, data, size)) return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 32 == 1) {
        LLVMFuzzerMutate((uint8_t *)&file.output, sizeof file.output, sizeof file.output);
        file.output %= MAX_OUTPUT + 9;
    } else {
        const unsigned i = seed / 32 % SECTIONS;
        file.size[i] = LLVMFuzzerMutate(file.data[i], file.size[i], MAX_INPUT);
    }
    const size_t made = assemble(&file, data, max_size);
    return made ? made : LLVMFuzzerMutate(data, size, max_size);
}
#endif
