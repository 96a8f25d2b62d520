#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned char *tqw_read_file(const char *path, size_t *size) {
    struct stat status;
    const int from = open(path, O_RDONLY);
    if (from < 0) return NULL;
    unsigned char *data = NULL;
    *size = 0;
    if (fstat(from, &status) == 0) data = malloc((size_t)status.st_size + 1);
    while (data) {
        const ssize_t part = read(from, data + *size, (size_t)status.st_size + 1 - *size);
        if (part > 0) *size += (size_t)part;
        if (part == 0) break;
        if ((part < 0 && errno != EINTR) || *size > (size_t)status.st_size) {
            if (part > 0) errno = EBUSY; /* it grows while it is read */
            free(data);
            data = NULL;
        }
    }
    const int error = errno;
    close(from);
    errno = error;
    return data;
}

typedef struct {
    int file;
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} target;

static int write_part(void *user, uint64_t offset, const uint8_t *data, size_t size) {
    while (size) {
        const ssize_t part = pwrite(((target *)user)->file, data, size, (off_t)offset);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return 1;
        data += part;
        size -= (size_t)part;
        offset += (uint64_t)part;
    }
    return 0;
}

static int read_part(void *user, uint64_t offset, uint8_t *data, size_t size) {
    while (size) {
        const ssize_t part = pread(((target *)user)->file, data, size, (off_t)offset);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return 1;
        data += part;
        size -= (size_t)part;
        offset += (uint64_t)part;
    }
    return 0;
}

static int report(void *user, uint64_t done, uint64_t total) {
    const target *to = user;
    return to->progress(to->user, done, total);
}

int tqw_write_to(tqw_file *file, const char *path,
                 int (*progress)(void *user, uint64_t done, uint64_t total), void *user) {
    target to = {open(path, O_RDWR | O_CREAT | O_TRUNC, 0666), progress, user};
    if (to.file < 0) return TQW_IO;
    const tqw_sink sink = {&to, write_part, read_part, progress ? report : NULL};
    int error = tqw_decode_to(file, &sink);
    if (!error && fsync(to.file)) error = TQW_IO;
    const int kept = errno;
    if (close(to.file) && !error) return TQW_IO;
    errno = kept;
    return error;
}

int tqw_unpack_to(tqw_file *file, const char *path,
                  int (*progress)(void *user, uint64_t done, uint64_t total), void *user) {
    const size_t room = strlen(path) + 32;
    char *beside = malloc(room);
    if (!beside) return TQW_IO;
    snprintf(beside, room, "%s.%ld.tmp", path, (long)getpid());
    int error = tqw_write_to(file, beside, progress, user);
    if (!error && rename(beside, path)) error = TQW_IO;
    const int kept = errno;
    if (error) unlink(beside);
    free(beside);
    errno = kept;
    return error;
}
