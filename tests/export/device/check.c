/* Runs the decoder over files and prints one line for each: its name, the error code, the SHA-256
   of the output.

       check decode BASE FILE...      whole, by parts and tensor by tensor, which must agree; BASE
   may be - check mutate CHANGE... -- FILE...  every byte of the file changed by xor with each
   CHANGE: none may decode check change CHANGE... -- FILE...  the same after the file was opened, as
   a mapped file can change check truncate FILE...         every shorter file: none may decode

   Buffers have exactly their sizes, so that a sanitizer sees any access outside of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tqw.h"

static unsigned char *scratch;

static unsigned char *exactly(size_t size) {
    unsigned char *p = malloc(size ? size : 1);
    if (!p) exit(2);
    return p;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(2);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = exactly(*size);
    if (fread(data, 1, *size, file) != *size) exit(2);
    fclose(file);
    return data;
}

typedef struct {
    unsigned char *data;
    uint64_t expected; /* where the next byte of the first pass goes */
    uint64_t total, reported;
} sink_state;

static int sink_write(void *user, uint64_t offset, const uint8_t *data, size_t size) {
    sink_state *s = user;
    if (s->expected < s->total && offset != s->expected) return 1;
    if (s->expected < s->total) s->expected += size;
    memcpy(s->data + offset, data, size);
    return 0;
}

static int sink_read(void *user, uint64_t offset, uint8_t *data, size_t size) {
    memcpy(data, ((sink_state *)user)->data + offset, size);
    return 0;
}

static int sink_progress(void *user, uint64_t done, uint64_t total) {
    sink_state *s = user;
    if (done < s->reported || total != s->total) return 1;
    s->reported = done;
    return 0;
}

static const char *compare(tqw_file *file, const unsigned char *out) {
    sink_state state = {exactly((size_t)file->output_bytes), 0, file->output_bytes, 0};
    const tqw_sink sink = {&state, sink_write, sink_read, sink_progress};
    const char *problem = NULL;
    if (tqw_decode_to(file, &sink) || memcmp(out, state.data, (size_t)file->output_bytes))
        problem = "parts differ";
    if (state.reported != file->output_bytes) problem = "progress does not end at the total";
    free(state.data);
    for (uint32_t i = file->tensors; i-- && !problem;) {
        tqw_tensor info;
        if (tqw_tensor_info(file, i, &info)) return "a tensor has no description";
        unsigned char *tensor = exactly((size_t)info.bytes);
        if (tqw_decode_tensor(file, i, tensor, (size_t)info.bytes))
            problem = "a tensor does not decode alone";
        else if (memcmp(tensor, out + info.offset, (size_t)info.bytes))
            problem = "a tensor differs";
        const int refused = tqw_decode_tensor(file, i, tensor, (size_t)info.bytes - 1);
        if (refused != TQW_BAD_ARGUMENT) problem = "a short buffer is taken";
        free(tensor);
    }
    return problem;
}

static int decode(const unsigned char *data, size_t size, const unsigned char *base,
                  size_t base_size, unsigned char digest[32], const char **problem) {
    const tqw_limits limits = {1u << 28, 1u << 12};
    tqw_file file;
    int error = tqw_open(&file, data, size, &limits, scratch, TQW_SCRATCH_BYTES);
    if (!error && file.needs_base && base) error = tqw_set_base(&file, base, base_size);
    if (error) return error;
    unsigned char *out = exactly((size_t)file.output_bytes);
    error = tqw_decode(&file, out, (size_t)file.output_bytes, NULL, NULL);
    if (!error && problem) *problem = compare(&file, out);
    if (!error) tqw_sha256(out, (size_t)file.output_bytes, digest);
    free(out);
    return error;
}

static int decode_files(int count, char **paths) {
    size_t base_size = 0, size;
    unsigned char *base = strcmp(paths[0], "-") ? read_file(paths[0], &base_size) : NULL,
                  digest[32];
    for (int i = 1; i < count; i++) {
        const char *problem = NULL;
        unsigned char *data = read_file(paths[i], &size);
        const int error = decode(data, size, base, base_size, digest, &problem);
        printf("%s %d ", paths[i], error);
        for (int k = 0; k < 32 && !error; k++) printf("%02x", digest[k]);
        printf(" %s\n", problem ? problem : "");
        free(data);
    }
    free(base);
    return 0;
}

static int count_accepted_late(const char *path, const int *changes, int count) {
    size_t size;
    unsigned char *data = read_file(path, &size);
    int accepted = 0;
    for (size_t at = 0; at < size; at++) {
        for (int k = 0; k < count; k++) {
            tqw_file file;
            if (tqw_open(&file, data, size, NULL, scratch, TQW_SCRATCH_BYTES)) exit(2);
            unsigned char *out = exactly((size_t)file.output_bytes);
            data[at] ^= (unsigned char)changes[k];
            accepted += !tqw_decode(&file, out, (size_t)file.output_bytes, NULL, NULL);
            data[at] ^= (unsigned char)changes[k];
            free(out);
        }
    }
    free(data);
    return accepted;
}

static int count_accepted(const char *path, const int *changes, int count) {
    size_t size;
    unsigned char digest[32], *data = read_file(path, &size);
    int accepted = 0;
    for (size_t at = 0; at < size; at++) {
        for (int k = 0; k < count; k++) {
            data[at] ^= (unsigned char)changes[k];
            accepted += !decode(data, size, NULL, 0, digest, NULL);
            data[at] ^= (unsigned char)changes[k];
        }
        if (count) continue;
        unsigned char *shorter = exactly(at);
        memcpy(shorter, data, at);
        accepted += !decode(shorter, at, NULL, 0, digest, NULL);
        free(shorter);
    }
    free(data);
    return accepted;
}

int main(int argc, char **argv) {
    int changes[16], count = 0, first = 2;
    scratch = exactly(TQW_SCRATCH_BYTES);
    memset(scratch, 0xA5, TQW_SCRATCH_BYTES);
    if (argc > 3 && !strcmp(argv[1], "decode")) return decode_files(argc - 2, argv + 2);
    const int late = argc > 2 && !strcmp(argv[1], "change");
    if (argc > 2 && (late || !strcmp(argv[1], "mutate"))) {
        for (; first < argc && strcmp(argv[first], "--") && count < 16; first++)
            changes[count++] = atoi(argv[first]);
        first++;
    } else if (argc < 3 || strcmp(argv[1], "truncate")) {
        fputs("usage: check decode BASE FILE... | mutate|change CHANGE... -- FILE... | truncate "
              "FILE...\n",
              stderr);
        return 2;
    }
    for (; first < argc; first++) {
        printf("%s %d\n", argv[first],
               (late ? count_accepted_late : count_accepted)(argv[first], changes, count));
    }
    free(scratch);
    return 0;
}
