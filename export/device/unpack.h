/* Whole files for programs that have POSIX and malloc: for the command `tqw` and the JNI library.
 */
#ifndef TQW_UNPACK_H
#define TQW_UNPACK_H

#include "tqw.h"

/* Reads a file into memory for free(); NULL with errno set if that fails. */
unsigned char *tqw_read_file(const char *path, size_t *size);

/* Decodes into the file at `path`, which it creates or empties, and waits until the disk has it. On
   failure the file is left for the caller to remove. Returns a tqw_error; errno is set with TQW_IO.
 */
int tqw_write_to(tqw_file *file, const char *path,
                 int (*progress)(void *user, uint64_t done, uint64_t total), void *user);

/* The same beside `path`, then renamed to it: `path` appears whole or not at all. */
int tqw_unpack_to(tqw_file *file, const char *path,
                  int (*progress)(void *user, uint64_t done, uint64_t total), void *user);

#endif
