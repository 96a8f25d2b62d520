/* The command `tqw`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unpack.h"

static const char USAGE[] = "usage: tqw info FILE.tqw\n"
                            "       tqw unpack [--base OLD.tflite] FILE.tqw OUTPUT.tflite\n"
                            "\n"
                            "info    shows what a container holds.\n"
                            "unpack  restores the .tflite, whole or not at all; --base names the "
                            "file that an update was made from.\n";

static int complain(const char *path, int error) {
    const char *words = error == TQW_IO && errno ? strerror(errno) : tqw_strerror(error);
    fprintf(stderr, "tqw: %s: %s\n", path, words);
    return 1;
}

static void print_digest(const char *name, const uint8_t digest[32]) {
    printf("%s", name);
    for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
    putchar('\n');
}

static int info(const char *path, const tqw_file *file, size_t size) {
    static const char *const codecs[] = {"raw", "const", "tans", "delta"};
    printf("container %zu bytes\noutput    %llu bytes\n", size,
           (unsigned long long)file->output_bytes);
    print_digest("sha256    ", file->sha256);
    if (file->needs_base) {
        printf("base      %llu bytes\n", (unsigned long long)file->base_bytes);
        print_digest("sha256    ", file->base_sha256);
    }
    printf("tables    %u\ntensors   %u\n\n", file->tables, file->tensors);
    puts("    offset      bytes      coded  bits codec  shape");
    for (uint32_t i = 0; i < file->tensors; i++) {
        tqw_tensor tensor;
        const int error = tqw_tensor_info(file, i, &tensor);
        if (error) return complain(path, error);
        printf("%10llu %10llu %10llu  %4u %-5s ", (unsigned long long)tensor.offset,
               (unsigned long long)tensor.bytes, (unsigned long long)tensor.coded_bytes,
               tensor.element_bits, codecs[tensor.codec]);
        for (unsigned k = 0; k < tensor.rank; k++) {
            printf("%s%llu", k ? " x " : " ", (unsigned long long)tensor.shape[k]);
        }
        putchar('\n');
    }
    return 0;
}

static int show(void *user, uint64_t done, uint64_t total) {
    int *percent = user;
    const int now = total ? (int)(done * 100 / total) : 100;
    if (now > *percent)
        fprintf(stderr, "\r%3d %%%s", *percent = now, now == 100 ? "\r     \r" : "");
    return 0;
}

static int unpack(tqw_file *file, const char *path, const char *base_path, const char *to) {
    /* Progress is worth showing from about a tenth of a second on. */
    const uint64_t worth_showing = 10000000;
    unsigned char *base = NULL;
    size_t base_size;
    int percent = -1, error;
    if (base_path) {
        base = tqw_read_file(base_path, &base_size);
        error = base ? tqw_set_base(file, base, base_size) : TQW_IO;
        if (error) {
            free(base);
            return complain(base_path, error);
        }
    }
    error = tqw_unpack_to(file, to, file->output_bytes > worth_showing ? show : NULL, &percent);
    free(base);
    return error ? complain(error == TQW_IO ? to : path, error) : 0;
}

int main(int argc, char **argv) {
    const int is_info = argc == 3 && !strcmp(argv[1], "info");
    const int has_base = argc == 6 && !strcmp(argv[1], "unpack") && !strcmp(argv[2], "--base");
    if (!is_info && !has_base && !(argc == 4 && !strcmp(argv[1], "unpack"))) {
        fputs(USAGE, stderr);
        return 2;
    }
    const char *path = argv[has_base ? 4 : 2];
    size_t size;
    tqw_file file;
    unsigned char *data = tqw_read_file(path, &size);
    void *scratch = malloc(TQW_SCRATCH_BYTES);
    int status;
    if (!data || !scratch) {
        status = complain(path, TQW_IO);
    } else {
        const int error = tqw_open(&file, data, size, NULL, scratch, TQW_SCRATCH_BYTES);
        if (error) status = complain(path, error);
        else if (is_info) status = info(path, &file, size);
        else status = unpack(&file, path, has_base ? argv[3] : NULL, argv[argc - 1]);
    }
    free(data);
    free(scratch);
    return status;
}
