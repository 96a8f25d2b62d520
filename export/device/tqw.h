/* tqw: restores a .tflite from its .tqw container, on anything that has a C99 compiler. Apache-2.0.

   Needs stdint.h and stddef.h only (and memcpy, memmove and memset, which compilers call by
   themselves). No malloc, no mutable statics, no recursion. The format, and what a decoder must
   reject: ../container/SPEC.md.

       static unsigned char scratch[TQW_SCRATCH_BYTES];
       tqw_file file;
       int error = tqw_open(&file, data, size, NULL, scratch, sizeof scratch);
       if (!error) error = tqw_decode(&file, out, out_size, NULL, NULL);
       if (error) puts(tqw_strerror(error));

   Every function returns TQW_OK (0) or one of tqw_error. Time is linear in the container and the
   output. What a failed call has written is worth nothing, but lies inside the buffers it was
   given. A tqw_file is for one thread at a time; data, base and scratch stay the caller's and must
   outlive it. Data that changes meanwhile, as a mapped file can, gives an error or wrong bytes, but
   no access outside of the buffers. */
#ifndef TQW_H
#define TQW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Work memory for tqw_open, any alignment. */
#define TQW_SCRATCH_BYTES (1u << 20)
#define TQW_MAX_RANK 8

typedef enum {
    TQW_OK = 0,
    TQW_BAD_ARGUMENT, /* a buffer is too small, a tensor number too large, a pointer missing */
    TQW_WRONG_BASE,   /* an update that needs the file it was made from: call tqw_set_base */
    TQW_IO,           /* a callback of tqw_sink failed */
    TQW_STOPPED,      /* the progress callback said stop */
    /* The rest in the order of the rules of SPEC.md. */
    TQW_NOT_TQW,
    TQW_NEWER,
    TQW_OVER_LIMIT,
    TQW_BAD_VARINT,
    TQW_BAD_SECTIONS,
    TQW_BAD_TABLE,
    TQW_BAD_ENTRY,
    TQW_BAD_SPAN,
    TQW_BAD_LITERALS,
    TQW_BAD_CHUNK,
    TQW_BAD_CHECKSUM,
    TQW_ERRORS
} tqw_error;

/* What a file may ask for. */
typedef struct {
    uint64_t output_bytes;
    uint32_t tensors;
} tqw_limits;

/* An open container. Read what has a comment; the rest is private. */
typedef struct {
    uint64_t output_bytes; /* of the .tflite */
    uint8_t sha256[32];    /* of the .tflite */
    uint32_t tensors;      /* coded tensors */
    uint32_t tables;       /* probability tables */
    int needs_base;        /* whether this is an update */
    uint64_t base_bytes;   /* size and SHA-256 of the .tflite that it updates */
    uint8_t base_sha256[32];
    const uint8_t *data;
    const uint8_t *base;
    void *work;
    struct {
        size_t at, size;
    } sections[6];
    size_t literals;
} tqw_file;

typedef enum { TQW_RAW = 0, TQW_CONST = 1, TQW_TANS = 2, TQW_DELTA = 3 } tqw_codec;

/* One coded tensor. */
typedef struct {
    tqw_codec codec;
    unsigned rank;
    uint64_t shape[TQW_MAX_RANK];
    unsigned element_bits;
    uint64_t bytes;       /* decoded */
    uint64_t offset;      /* in the .tflite */
    uint64_t coded_bytes; /* in the container, without the tables */
} tqw_tensor;

/* Where a decoded file goes, in parts; `read` gives back what `write` took. All return 0 for
 * success. */
typedef struct {
    void *user;
    int (*write)(void *user, uint64_t offset, const uint8_t *data, size_t size);
    int (*read)(void *user, uint64_t offset, uint8_t *data, size_t size);
    int (*progress)(void *user, uint64_t done, uint64_t total); /* may be NULL */
} tqw_sink;

/* Checks all of a container but its literals and chunks.
   `limits` NULL: 2 GiB of output, 65,536 tensors. */
int tqw_open(tqw_file *file, const void *data, size_t size, const tqw_limits *limits, void *scratch,
             size_t scratch_bytes);

/* Gives an update the file that it updates; checks its size and SHA-256. */
int tqw_set_base(tqw_file *file, const void *base, size_t size);

/* Describes tensor `number` of 0 .. file->tensors - 1. */
int tqw_tensor_info(const tqw_file *file, uint32_t number, tqw_tensor *info);

/* Decodes one tensor alone and checks its crc32.
   `size` is that of `out`, at least tqw_tensor.bytes. */
int tqw_decode_tensor(tqw_file *file, uint32_t number, void *out, size_t size);

/* Decodes the whole file into `out` and checks its SHA-256. `progress` may be NULL. */
int tqw_decode(tqw_file *file, void *out, size_t size,
               int (*progress)(void *user, uint64_t done, uint64_t total), void *user);

/* The same in bounded memory, for any size of file: first every byte is written once, from the
   first to the last; then bytes that repeat or follow from others are read, computed and written;
   then all are read for the SHA-256. */
int tqw_decode_to(tqw_file *file, const tqw_sink *sink);

/* The SHA-256 of any bytes, for example of a cached output. */
void tqw_sha256(const void *data, size_t size, uint8_t digest[32]);

/* What an error code means, in English. */
const char *tqw_strerror(int error);

#ifdef __cplusplus
}
#endif
#endif
