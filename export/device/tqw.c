/* tqw: the interface is in tqw.h. This file follows the order of ../container/SPEC.md. */
#include "tqw.h"

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

/* A fuzzer cannot guess checksums; all other checks stay. */
#ifdef TQW_IGNORE_CHECKSUMS
#define DIFFERS(a, b) ((void)(a), (void)(b), 0)
#else
#define DIFFERS(a, b) ((a) != (b))
#endif

enum { BASE, POOL, INDEX, SKELETON, CHUNKS, SECTIONS };
enum { LITERAL, TENSOR, ZERO, PRODUCT_F32, COPY, FROM_BASE, SPAN_KINDS };
enum { NO_AXIS, COLUMNS, NEIGHBOURS, BASE_CODES };
/* Limits of the format, from SPEC.md, but for PIECE. */
enum {
    MAX_TABLES = 256,
    MAX_BINS = 256,
    MAX_EXTRA = 32,
    MAX_CELLS = 64,
    MAX_STATES = 1 << 12,    /* of one table */
    TENSOR_STATES = 1 << 17, /* of the different tables of a tensor */
    MAX_CLASSED = 1 << 16,   /* entries of a map */
    CATEGORIES = 5,
    REACH = 1 << 16,   /* how far back the upper neighbour of a weight may be */
    PIECE = 1 << 14,   /* weights decoded at a time: what is left of 1 MB of work memory allows */
    MANY_LANES = 2048, /* a chunk of this many weights has 8 lanes, a smaller one has 1 */
    WINDOW = 1 << 16   /* how far back a match in the literals may be */
};

/* One probability table. */
typedef struct {
    uint64_t first;
    unsigned bits, bins;
    uint8_t extra[MAX_BINS];
    uint16_t frequency[MAX_BINS];
} table;

/* LZMA's adaptive probabilities, of 1 in 2048, and the stream that they decode. */
enum { LZMA_STATES = 12, POSITIONS = 4, ONE_HALF = 1 << 10 };
typedef struct {
    uint16_t choice[2], low[POSITIONS][8], middle[POSITIONS][8], high[256];
} lengths;
typedef struct {
    uint16_t is_match[LZMA_STATES][POSITIONS], is_rep[LZMA_STATES], is_rep0[LZMA_STATES],
        is_rep1[LZMA_STATES], is_rep2[LZMA_STATES], is_long_rep0[LZMA_STATES][POSITIONS],
        slot[4][64], special[128], align[16];
    lengths match, rep;
    uint16_t literal[POSITIONS][768];
} probabilities;
typedef struct {
    const uint8_t *data;
    size_t size, at, chunk_end;
    enum { BETWEEN, STORED, CODED, ENDED } mode;
    unsigned missing; /* 2: the next coded chunk must bring properties, 1: reset the state */
    uint32_t left;    /* bytes that the chunk still makes */
    uint32_t range, code;
    unsigned state, length; /* length: left of a match */
    uint32_t rep[4];        /* distances - 1 */
    uint32_t filled, place; /* of the window; the place is the position as far as LZMA cares */
    probabilities p;
    uint8_t window[WINDOW];
} lzma;

/* A table made ready for elements of one kind. */
typedef struct {
    uint32_t key;  /* which, 0 for none */
    unsigned most; /* the most bits a symbol takes */
    int plain;     /* no symbol has extra bits */
} automaton;

/* What the scratch memory holds. */
typedef struct {
    uint32_t crc[16][256];
    uint32_t states[TENSOR_STATES];
    uint32_t map_states[MAX_STATES];
    uint32_t values[MAX_CELLS][MAX_BINS]; /* of the bins, for elements wider than a byte */
    size_t pool_at[MAX_TABLES];
    uint8_t pool_bits[MAX_TABLES];
    uint8_t pool_bytes[MAX_TABLES]; /* whether all codes are 0 to 255, as in a map */
    automaton automata[MAX_CELLS];  /* what is where in `states` */
    unsigned automata_bits, victim;
    table parsed;
    union {
        uint8_t bytes[REACH + PIECE];
        uint32_t wide[PIECE];
    } window;
    uint8_t slots[PIECE];       /* of the next symbols */
    uint8_t lines[MAX_CLASSED]; /* slots of the columns for as many row classes as fit, each in its
                                   place */
    int line_class[16];
    uint8_t classes[2 * MAX_CLASSED]; /* of rows, then of columns or categories */
    uint8_t category[256], no_category[256];
    lzma literals;
    uint8_t buffer[1 << 12];
} work;

typedef char work_fits_the_scratch[sizeof(work) + 7 <= TQW_SCRATCH_BYTES ? 1 : -1];

/* `restrict` makes it a memcpy. */
static void copy(uint8_t *restrict to, const uint8_t *restrict from, size_t size) {
    for (size_t i = 0; i < size; i++) to[i] = from[i];
}

static void clear(uint8_t *to, size_t size) {
    for (size_t i = 0; i < size; i++) to[i] = 0;
}

static size_t least(uint64_t a, size_t b) { return a < b ? (size_t)a : b; }

static uint32_t load32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static ALWAYS_INLINE uint64_t load64(const uint8_t *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

/* ---- crc32: three words of eight bytes at a time, which do not wait for each other ---- */

enum { WORDS = 3 };

/* Table k carries a byte on over k zeros, k being 0 to 7 and 16 to 23. */
static void crc_tables(uint32_t crc[16][256]) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
        crc[0][i] = c;
    }
    for (unsigned k = 1; k < 8 * WORDS; k++) {
        const uint32_t *from = crc[k <= 8 ? k - 1 : k <= 16 ? 8 : k - 9];
        uint32_t *to = crc[k < 8 ? k : k < 16 ? 8 : k - 8];
        for (uint32_t i = 0; i < 256; i++) to[i] = from[i] >> 8 ^ crc[0][from[i] & 255];
    }
}

static uint32_t crc_word(uint32_t tables[8][256], uint64_t v) {
    return tables[7][v & 255] ^ tables[6][v >> 8 & 255] ^ tables[5][v >> 16 & 255] ^
           tables[4][v >> 24 & 255] ^ tables[3][v >> 32 & 255] ^ tables[2][v >> 40 & 255] ^
           tables[1][v >> 48 & 255] ^ tables[0][v >> 56];
}

/* Carries `crc` (0 at first) on over `size` bytes. */
static uint32_t crc32(uint32_t tables[16][256], uint32_t crc, const uint8_t *p, size_t size) {
    uint32_t c[WORDS] = {~crc, 0, 0};
    for (; size >= 16 * WORDS; size -= 8 * WORDS, p += 8 * WORDS) {
        c[0] = crc_word(tables + 8, load64(p) ^ c[0]);
        c[1] = crc_word(tables + 8, load64(p + 8) ^ c[1]);
        c[2] = crc_word(tables + 8, load64(p + 16) ^ c[2]);
    }
    /* The word that each has been carried on to. */
    for (unsigned i = 0; i < WORDS && size >= 8; i++, size -= 8, p += 8) {
        c[0] = crc_word(tables, load64(p) ^ (i ? c[0] ^ c[i] : c[0]));
    }
    for (; size; size--) c[0] = c[0] >> 8 ^ tables[0][(c[0] ^ *p++) & 255];
    return ~c[0];
}

/* ---- SHA-256 (FIPS 180-4) ---- */

typedef struct {
    uint32_t h[8];
    uint64_t size;
    uint8_t block[64];
} sha256;

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static void sha_block(uint32_t s[8], const uint8_t *p) {
    uint32_t w[16], a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (unsigned i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
/* The names of the eight words move on by one each round. */
#define ROUND(i, a, b, c, d, e, f, g, h)                                                           \
    do {                                                                                           \
        h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) + SHA_K[k + i] + \
             w[i];                                                                                 \
        d += h;                                                                                    \
        h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)));           \
    } while (0)
    for (unsigned k = 0;;) {
        for (unsigned i = 0; i < 16; i += 8) {
            ROUND(i, a, b, c, d, e, f, g, h);
            ROUND(i + 1, h, a, b, c, d, e, f, g);
            ROUND(i + 2, g, h, a, b, c, d, e, f);
            ROUND(i + 3, f, g, h, a, b, c, d, e);
            ROUND(i + 4, e, f, g, h, a, b, c, d);
            ROUND(i + 5, d, e, f, g, h, a, b, c);
            ROUND(i + 6, c, d, e, f, g, h, a, b);
            ROUND(i + 7, b, c, d, e, f, g, h, a);
        }
        if ((k += 16) == 64) break;
        for (unsigned i = 0; i < 16; i++) {
            const uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
            w[i] += rotate(x, 7) ^ rotate(x, 18) ^ x >> 3;
            w[i] += w[(i + 9) & 15] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
        }
    }
#undef ROUND
    s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;
}

static void sha_start(sha256 *sha) {
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (unsigned i = 0; i < 8; i++) sha->h[i] = h[i];
    sha->size = 0;
}

static void sha_add(sha256 *sha, const uint8_t *p, size_t size) {
    while (size) {
        const size_t used = (size_t)(sha->size & 63), part = least(size, 64 - used);
        if (part == 64) {
            sha_block(sha->h, p);
        } else {
            copy(sha->block + used, p, part);
            if (used + part == 64) sha_block(sha->h, sha->block);
        }
        p += part;
        size -= part;
        sha->size += part;
    }
}

static void sha_end(sha256 *sha, uint8_t digest[32]) {
    static const uint8_t one = 0x80, zero = 0;
    const uint64_t bits = sha->size * 8;
    uint8_t length[8];
    for (unsigned i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha_add(sha, &one, 1);
    while ((sha->size & 63) != 56) sha_add(sha, &zero, 1);
    sha_add(sha, length, 8);
    for (unsigned i = 0; i < 32; i++) digest[i] = (uint8_t)(sha->h[i / 4] >> (24 - 8 * (i % 4)));
}

static int digests_differ(const uint8_t *a, const uint8_t *b) {
    int differ = 0;
    for (unsigned i = 0; i < 32; i++) differ |= DIFFERS(a[i], b[i]);
    return differ;
}

void tqw_sha256(const void *data, size_t size, uint8_t digest[32]) {
    sha256 sha;
    sha_start(&sha);
    sha_add(&sha, data, size);
    sha_end(&sha, digest);
}

/* ---- fields: a reader whose first error sticks, after which it reads zeros ---- */

typedef struct {
    const uint8_t *data;
    size_t size, at;
    int ends, error; /* what running out of bytes means here; the first error */
    unsigned byte, bits_left;
} reader;

static reader section(const tqw_file *file, unsigned number, int ends) {
    reader r = {0};
    r.data = file->data + file->sections[number].at;
    r.size = file->sections[number].size;
    r.ends = ends;
    return r;
}

static void fail(reader *r, int error) {
    if (!r->error) r->error = error;
    r->at = r->size;
}

static unsigned read_u8(reader *r) {
    if (r->at < r->size) return r->data[r->at++];
    fail(r, r->ends);
    return 0;
}

static uint32_t read_u32(reader *r) {
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 32; shift += 8) value |= (uint32_t)read_u8(r) << shift;
    return value;
}

static uint64_t read_varint(reader *r) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        const unsigned byte = read_u8(r);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            if (byte == 0 && shift && !r->error) fail(r, TQW_BAD_VARINT);
            return value;
        }
    }
    fail(r, TQW_BAD_VARINT);
    return 0;
}

static unsigned read_bits(reader *r, unsigned count) {
    unsigned value = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!r->bits_left) {
            r->byte = read_u8(r);
            r->bits_left = 8;
        }
        value |= (r->byte & 1) << i;
        r->byte >>= 1;
        r->bits_left--;
    }
    return value;
}

static int read_gamma(reader *r) {
    for (unsigned zeros = 0; zeros <= 6; zeros++)
        if (read_bits(r, 1)) return (int)(1u << zeros | read_bits(r, zeros)) - 1;
    fail(r, TQW_BAD_TABLE);
    return 0;
}

static int unzigzag(int value) { return value & 1 ? -(value >> 1) - 1 : value >> 1; }

/* ---- POOL: tables ---- */

static int predicted_class(const uint8_t *classes, unsigned bin, unsigned peak) {
    if (bin > peak && 2 * peak >= bin) return classes[2 * peak - bin];
    return bin == 0 || bin == peak + 1 ? 1 : classes[bin - 1];
}

static int read_table(reader *r, table *t) {
    uint8_t classes[MAX_BINS];
    const uint64_t first = read_varint(r);
    t->first = first >> 1 ^ (0 - (first & 1));
    r->byte = r->bits_left = 0;
    t->bits = 11 + read_bits(r, 1);
    const unsigned precision = read_bits(r, 4);
    t->bins = read_bits(r, 8) + 1;
    const unsigned peak = read_bits(r, 8);
    if (peak >= t->bins) fail(r, TQW_BAD_TABLE);
    const unsigned varies = read_bits(r, 1);
    int extra = read_gamma(r);
    for (unsigned bin = 0; bin < t->bins; bin++) {
        if (bin && varies) extra += unzigzag(read_gamma(r));
        if (extra < 0 || extra > MAX_EXTRA) fail(r, TQW_BAD_TABLE);
        if (r->error) return r->error;
        t->extra[bin] = (uint8_t)extra;
    }
    int left = 1 << t->bits;
    for (unsigned bin = 0; bin < t->bins; bin++) {
        int kind = 0, frequency = 0;
        if (bin != peak) kind = predicted_class(classes, bin, peak) + unzigzag(read_gamma(r));
        if (kind < 0 || kind > (int)t->bits) fail(r, TQW_BAD_TABLE);
        if (r->error) return r->error;
        if (kind) {
            const unsigned below = (unsigned)kind - 1, kept = precision < below ? precision : below;
            frequency = (int)((1u << kept | read_bits(r, kept)) << (below - kept));
        }
        classes[bin] = (uint8_t)kind;
        t->frequency[bin] = (uint16_t)frequency;
        left -= frequency;
    }
    if (left < 1 || r->byte) fail(r, TQW_BAD_TABLE);
    t->frequency[peak] = (uint16_t)left;
    return r->error;
}

static int read_pool(tqw_file *file, work *w) {
    reader r = section(file, POOL, TQW_BAD_TABLE);
    while (r.at < r.size) {
        const table *t = &w->parsed;
        uint64_t size = 0;
        if (file->tables == MAX_TABLES) return TQW_BAD_TABLE;
        w->pool_at[file->tables] = r.at;
        if (read_table(&r, &w->parsed)) return r.error;
        for (unsigned bin = 0; bin < t->bins; bin++) size += (uint64_t)1 << t->extra[bin];
        w->pool_bytes[file->tables] = t->first < 256 && size <= 256 - t->first;
        w->pool_bits[file->tables++] = (uint8_t)t->bits;
    }
    return r.error;
}

/* ---- INDEX: entries ---- */

typedef struct {
    unsigned codec, rank, log2_bits, shift;
    uint64_t shape[TQW_MAX_RANK];
    uint64_t weights, bytes, coded;
    uint32_t crc;
    uint64_t base_at;
    unsigned chunk_log2, row_classes, axis, axis_classes, threshold, map_table;
    uint64_t row; /* weights per row */
    uint64_t map_bytes;
    unsigned cells;
    uint8_t tables[MAX_CELLS];
    size_t sizes_at; /* of the chunk sizes, in INDEX */
} entry;

static uint64_t chunk_step(const entry *e) {
    const uint64_t limit = (uint64_t)1 << e->chunk_log2;
    return e->row <= limit ? limit / e->row * e->row : limit;
}

static unsigned last_dimension(const entry *e) { return (unsigned)e->shape[e->rank - 1]; }

static uint64_t map_weights(const entry *e) {
    const unsigned second[] = {0, e->axis == COLUMNS ? last_dimension(e) : 0,
                               CATEGORIES * CATEGORIES, CATEGORIES};
    return (e->row_classes > 1 ? e->shape[0] : 0) + second[e->axis];
}

static void read_classes(reader *r, const tqw_file *file, entry *e, unsigned form) {
    const int has_rows = form & 1;
    e->axis = form >> 1;
    if (has_rows) e->row_classes = read_u8(r);
    if (e->axis) e->axis_classes = read_u8(r);
    if (e->axis >= NEIGHBOURS) e->threshold = read_u8(r);
    if (has_rows && (e->row_classes < 2 || e->row_classes > 16 || e->shape[0] > MAX_CLASSED))
        fail(r, TQW_BAD_ENTRY);
    if (e->axis && (e->axis_classes < 2 || e->axis_classes > 16 || e->threshold > 127))
        fail(r, TQW_BAD_ENTRY);
    if (e->axis == COLUMNS && e->shape[e->rank - 1] > MAX_CLASSED) fail(r, TQW_BAD_ENTRY);
    if (e->axis >= NEIGHBOURS && e->log2_bits > 3) fail(r, TQW_BAD_ENTRY);
    if (e->axis == NEIGHBOURS) {
        const int fits = e->codec == TQW_TANS && e->rank == 4 && e->shape[3] >= 8;
        if (!fits || e->shape[2] * e->shape[3] > REACH || e->row > (uint64_t)1 << e->chunk_log2)
            fail(r, TQW_BAD_ENTRY);
    }
    if (e->axis == BASE_CODES && e->codec != TQW_DELTA) fail(r, TQW_BAD_ENTRY);
    e->cells = e->row_classes * e->axis_classes;
    if (e->cells > MAX_CELLS) fail(r, TQW_BAD_ENTRY);
    e->map_table = read_u8(r);
    e->map_bytes = read_varint(r);
    if (e->map_table >= file->tables || !((work *)file->work)->pool_bytes[e->map_table])
        fail(r, TQW_BAD_ENTRY);
}

static void read_tables(reader *r, const tqw_file *file, entry *e) {
    const work *w = file->work;
    unsigned distinct = 0;
    uint8_t seen[MAX_TABLES];
    clear(seen, sizeof seen);
    for (unsigned cell = 0; cell < e->cells && !r->error; cell++) {
        const unsigned number = e->tables[cell] = (uint8_t)read_u8(r);
        if (number >= file->tables || w->pool_bits[number] != w->pool_bits[e->tables[0]]) {
            fail(r, TQW_BAD_ENTRY);
            return;
        }
        distinct += !seen[number];
        seen[number] = 1;
    }
    if (!r->error && distinct << w->pool_bits[e->tables[0]] > TENSOR_STATES) fail(r, TQW_BAD_ENTRY);
}

static void read_tans(reader *r, const tqw_file *file, entry *e) {
    if (e->log2_bits > 5) fail(r, TQW_BAD_ENTRY);
    if (e->codec == TQW_DELTA) {
        e->base_at = read_varint(r);
        if (!file->needs_base || e->base_at > file->base_bytes ||
            e->bytes > file->base_bytes - e->base_at) {
            fail(r, TQW_BAD_ENTRY);
        }
    }
    const unsigned form = read_u8(r);
    e->chunk_log2 = 16 + (form & 15);
    if (e->chunk_log2 > 20 || form > 127) fail(r, TQW_BAD_ENTRY);
    if (r->error) return;
    e->row = e->weights / e->shape[0];
    e->cells = e->row_classes = e->axis_classes = 1;
    if (form >> 4) read_classes(r, file, e, form >> 4);
    if (r->error) return;
    read_tables(r, file, e);
    e->sizes_at = r->at;
    e->coded = e->map_bytes;
    const uint64_t most = file->sections[CHUNKS].size, step = chunk_step(e);
    for (uint64_t at = 0; at < e->weights && !r->error; at += step) {
        if (e->coded > most) fail(r, TQW_BAD_CHUNK);
        e->coded += read_varint(r);
    }
}

/* Reads the next entry and checks all its fields, so that decoding need not. */
static int read_entry(reader *r, const tqw_file *file, entry *e) {
    static const entry none = {0};
    *e = none;
    unsigned byte = read_u8(r);
    e->codec = byte & 15;
    e->rank = byte >> 4;
    byte = read_u8(r);
    e->log2_bits = byte & 7;
    e->shift = byte >> 3;
    const int possible = e->codec <= TQW_DELTA && e->rank >= 1 && e->rank <= TQW_MAX_RANK &&
                         e->log2_bits >= 1 && e->log2_bits <= 6 && e->shift < 1u << e->log2_bits &&
                         (e->codec >= TQW_TANS || !e->shift);
    if (!possible) fail(r, TQW_BAD_ENTRY);
    /* tqw_open refuses outputs for which this could overflow. */
    const uint64_t most = file->output_bytes * 8 >> e->log2_bits;
    e->weights = 1;
    for (unsigned i = 0; i < e->rank && !r->error; i++) {
        e->shape[i] = read_varint(r);
        if (e->shape[i] == 0 || e->shape[i] > most / e->weights) fail(r, TQW_BAD_ENTRY);
        e->weights *= e->shape[i];
    }
    if (r->error) return r->error;
    e->bytes = ((e->weights << e->log2_bits) + 7) >> 3;
    e->crc = read_u32(r);
    if (e->codec == TQW_RAW) e->coded = e->bytes;
    if (e->codec == TQW_CONST) e->coded = e->log2_bits > 3 ? 1u << (e->log2_bits - 3) : 1;
    if (e->codec >= TQW_TANS) read_tans(r, file, e);
    return r->error;
}

static int read_index(tqw_file *file, const tqw_limits *limits) {
    reader r = section(file, INDEX, TQW_BAD_ENTRY);
    uint64_t coded = 0;
    entry e;
    while (r.at < r.size) {
        if (file->tensors == limits->tensors) return TQW_OVER_LIMIT;
        if (read_entry(&r, file, &e)) return r.error;
        file->tensors++;
        if (e.coded > file->sections[CHUNKS].size - coded) return TQW_BAD_CHUNK;
        coded += e.coded;
    }
    if (r.error) return r.error;
    return coded == file->sections[CHUNKS].size ? TQW_OK : TQW_BAD_CHUNK;
}

/* ---- SKELETON: spans ---- */

typedef struct {
    reader spans, index;
    uint64_t at;    /* end of the span in the output */
    uint64_t coded; /* start of the span's tensor in CHUNKS */
    unsigned kind;
    uint64_t length, a, b;
    entry tensor;
} walk;

static walk start_walk(const tqw_file *file) {
    walk k = {0};
    k.spans = section(file, SKELETON, TQW_BAD_SPAN);
    k.index = section(file, INDEX, TQW_BAD_ENTRY);
    return k;
}

static int apart(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
    return a < b ? b - a >= a_size : a - b >= b_size;
}

/* Reads the next span and its tensor, if any. */
static int next_span(walk *k, const tqw_file *file) {
    reader *r = &k->spans;
    const uint64_t field = read_varint(r), total = file->output_bytes, start = k->at;
    k->kind = (unsigned)field & 7;
    k->length = field >> 3;
    if (r->error) return r->error;
    if (k->kind >= SPAN_KINDS || (k->length == 0) != (k->kind == TENSOR)) return TQW_BAD_SPAN;
    if (k->kind == TENSOR) {
        if (k->index.at == k->index.size) return TQW_BAD_SPAN;
        k->coded += k->tensor.coded;
        if (read_entry(&k->index, file, &k->tensor)) return k->index.error;
        k->length = k->tensor.bytes;
    }
    if (k->length > total - start) return TQW_BAD_SPAN;
    k->at += k->length;
    if (k->kind < PRODUCT_F32) return TQW_OK;
    k->a = read_varint(r);
    if (k->kind == PRODUCT_F32) {
        k->b = read_varint(r);
        if (r->error) return r->error;
        if (k->length % 4 || total < 4 || k->a > total - 4 || k->b > total - k->length)
            return TQW_BAD_SPAN;
        return apart(k->a, 4, start, k->length) && apart(k->b, k->length, start, k->length)
                   ? TQW_OK
                   : TQW_BAD_SPAN;
    }
    if (r->error) return r->error;
    const uint64_t source = k->kind == COPY ? total : file->needs_base ? file->base_bytes : 0;
    if (k->length > source || k->a > source - k->length) return TQW_BAD_SPAN;
    return k->kind == FROM_BASE || apart(k->a, k->length, start, k->length) ? TQW_OK : TQW_BAD_SPAN;
}

static int read_skeleton(tqw_file *file) {
    walk k = start_walk(file);
    uint64_t literals = 0;
    while (k.at < file->output_bytes) {
        const int error = next_span(&k, file);
        if (error) return error;
        if (k.kind == LITERAL) literals += k.length;
    }
    file->literals = k.spans.at;
    if (k.index.at < k.index.size) return TQW_BAD_SPAN;
    return literals || k.spans.at == k.spans.size ? TQW_OK : TQW_BAD_LITERALS;
}

/* ---- header ---- */

/* Reads `count` rows of the section table; the sections lie after `at`. */
static int read_sections(tqw_file *file, reader *r, unsigned count, size_t at) {
    work *w = file->work;
    unsigned before = 0;
    while (count--) {
        const unsigned stored = read_u8(r), type = stored & 127;
        const uint64_t size = read_varint(r);
        const uint32_t crc = read_u32(r);
        if (type <= before || size > r->size - at) return TQW_BAD_SECTIONS;
        before = type;
        if (type > SECTIONS && stored & 128) return TQW_NEWER;
        if (DIFFERS(crc, crc32(w->crc, 0, file->data + at, (size_t)size))) return TQW_BAD_CHECKSUM;
        if (type <= SECTIONS) {
            file->sections[type - 1].at = at;
            file->sections[type - 1].size = (size_t)size;
        }
        at += (size_t)size;
    }
    return at == r->size ? TQW_OK : TQW_BAD_SECTIONS;
}

static int read_header(tqw_file *file, reader *r, const tqw_limits *limits) {
    static const uint8_t magic[8] = {0x89, 'T', 'Q', 'W', '\r', '\n', 0x1a, '\n'};
    work *w = file->work;
    for (unsigned i = 0; i < 8; i++)
        if (read_u8(r) != magic[i]) return TQW_NOT_TQW;
    const unsigned major = read_u8(r);
    (void)read_u8(r);
    const unsigned incompatible = read_u8(r);
    (void)read_u8(r);
    if (!r->error && (major != 1 || incompatible)) return TQW_NEWER;
    for (unsigned i = 0; i < 32; i++) file->sha256[i] = (uint8_t)read_u8(r);
    file->output_bytes = read_varint(r);
    if (r->error) return r->error;
    if (file->output_bytes > limits->output_bytes || file->output_bytes >> 56)
        return TQW_OVER_LIMIT;
    const unsigned count = read_u8(r);
    reader table = *r;
    for (unsigned i = 0; i < count; i++) {
        (void)read_u8(r);
        (void)read_varint(r);
        (void)read_u32(r);
    }
    const size_t end = r->at;
    const uint32_t crc = read_u32(r);
    if (r->error) return r->error;
    if (DIFFERS(crc, crc32(w->crc, 0, r->data, end))) return TQW_BAD_CHECKSUM;
    return read_sections(file, &table, count, r->at);
}

static int read_base(tqw_file *file) {
    reader r = section(file, BASE, TQW_BAD_SECTIONS);
    if (!r.size) return TQW_OK;
    file->needs_base = 1;
    for (unsigned i = 0; i < 32; i++) file->base_sha256[i] = (uint8_t)read_u8(&r);
    file->base_bytes = read_varint(&r);
    if (!r.error && r.at < r.size) return TQW_BAD_SECTIONS;
    return r.error;
}

int tqw_open(tqw_file *file, const void *data, size_t size, const tqw_limits *limits, void *scratch,
             size_t scratch_bytes) {
    static const tqw_limits usual = {(uint64_t)1 << 31, 1u << 16};
    static const tqw_file none = {0};
    if (!file || !data || !scratch || scratch_bytes < TQW_SCRATCH_BYTES) return TQW_BAD_ARGUMENT;
    *file = none;
    file->data = data;
    file->work = (uint8_t *)scratch + (0 - (uintptr_t)scratch) % 8;
    work *w = file->work;
    crc_tables(w->crc);
    clear((uint8_t *)w->automata, sizeof w->automata);
    w->automata_bits = w->victim = 0;
    clear(w->no_category, sizeof w->no_category);
    if (!limits) limits = &usual;
    reader r = {0};
    r.data = data;
    r.size = size;
    r.ends = TQW_BAD_SECTIONS;
    int error = read_header(file, &r, limits);
    if (!error) error = read_base(file);
    if (!error) error = read_pool(file, w);
    if (!error) error = read_index(file, limits);
    if (!error) error = read_skeleton(file);
    return error;
}

int tqw_set_base(tqw_file *file, const void *base, size_t size) {
    uint8_t digest[32];
    if (!file || (!base && size)) return TQW_BAD_ARGUMENT;
    if (!file->needs_base || size != file->base_bytes) return TQW_WRONG_BASE;
    tqw_sha256(base, size, digest);
    if (digests_differ(digest, file->base_sha256)) return TQW_WRONG_BASE;
    file->base = base;
    return TQW_OK;
}

int tqw_tensor_info(const tqw_file *file, uint32_t number, tqw_tensor *info) {
    if (!file || !info || number >= file->tensors) return TQW_BAD_ARGUMENT;
    walk k = start_walk(file);
    do {
        const int error = next_span(&k, file);
        if (error) return error;
    } while (k.kind != TENSOR || number--);
    const entry *e = &k.tensor;
    info->codec = (tqw_codec)e->codec;
    info->rank = e->rank;
    for (unsigned i = 0; i < e->rank; i++) info->shape[i] = e->shape[i];
    info->element_bits = 1u << e->log2_bits;
    info->bytes = e->bytes;
    info->offset = k.at - k.length;
    info->coded_bytes = e->coded;
    return TQW_OK;
}

/* ---- output: where decoded bytes go ---- */

typedef struct {
    const tqw_sink *sink;
    uint64_t at, total; /* written so far, of how many */
    uint32_t crc;       /* of the tensor so far */
} output;

static int put(output *out, const uint8_t *data, size_t size) {
    const tqw_sink *sink = out->sink;
    if (sink->write(sink->user, out->at, data, size)) return TQW_IO;
    out->at += size;
    return sink->progress && sink->progress(sink->user, out->at, out->total) ? TQW_STOPPED : TQW_OK;
}

static int put_tensor(work *w, output *out, const uint8_t *data, size_t size) {
    out->crc = crc32(w->crc, out->crc, data, size);
    return put(out, data, size);
}

/* Writes `length` bytes that repeat the `size` of `w->buffer`, of which it holds whole ones. */
static int put_repeated(work *w, output *out, uint64_t length, size_t size, int is_tensor) {
    while (length) {
        const size_t part = least(length, size);
        const int error =
            is_tensor ? put_tensor(w, out, w->buffer, part) : put(out, w->buffer, part);
        if (error) return error;
        length -= part;
    }
    return TQW_OK;
}

/* ---- CHUNKS: tANS ---- */

/* A chunk while it is decoded: its lanes and its bits. What is read after its end is zero. */
typedef struct {
    uint32_t state[8];
    const uint8_t *data;
    size_t size;
    uint64_t at; /* in bits */
    unsigned lanes, lane;
} stream;

/* How symbols become elements. */
typedef struct {
    const uint32_t *states[MAX_CELLS]; /* of each automaton */
    unsigned bits, shift, most; /* probability bits; of the codes; the most bits a symbol takes */
    int plain, wide,
        mapped; /* no extra bits; elements of more than 8 bits; more than one automaton */
    uint32_t (*values)[MAX_BINS];
    const uint8_t *slots;
} symbols;

/* A state: all bits to read (6 of 8, so that four can be added up), the element or the bin (8), the
   bits of the next state (4), its base (12). */
#define TAKES(e) ((e) & 63u)
#define VALUE(e) ((e) >> 8 & 255u)
#define STATE_BITS(e) ((e) >> 16 & 15u)
#define STATE_BASE(e) ((e) >> 20)

static unsigned floor_log2(uint32_t v) {
    unsigned n = 0;
    while (v >>= 1) n++;
    return n;
}

/* Builds the automaton of `t`. Elements of up to 8 bits lie in its states, wider ones in `values`.
 */
static void build(const table *t, automaton *a, uint32_t *states, uint32_t *values, unsigned shift,
                  unsigned element_bits) {
    const uint32_t size = 1u << t->bits, step = size / 2 + size / 8 + 3;
    /* Per bin: the number of its next state; floor(log2 f) + 1; the state but for its number, with
     * the most bits. */
    uint32_t next[MAX_BINS], entry_of[MAX_BINS], start = (uint32_t)t->first, place = 0;
    uint8_t log2_next[MAX_BINS];
    a->most = 0;
    a->plain = 1;
    for (unsigned bin = 0; bin < t->bins; bin++) {
        const uint32_t element = start << shift, frequency = t->frequency[bin];
        const unsigned log2 = floor_log2(frequency), n = t->bits - log2, takes = n + t->extra[bin];
        const uint32_t value = element_bits > 8 ? bin : element & ((1u << element_bits) - 1);
        if (element_bits > 8) values[bin] = element;
        start += t->extra[bin] < 32 ? 1u << t->extra[bin] : 0;
        next[bin] = frequency;
        log2_next[bin] = (uint8_t)(log2 + 1);
        entry_of[bin] = takes | value << 8 | n << 16;
        for (unsigned i = 0; i < frequency; i++) {
            states[place] = bin;
            place = (place + step) & (size - 1);
        }
        if (frequency && takes > a->most) a->most = takes;
        if (frequency && t->extra[bin]) a->plain = 0;
    }
    for (uint32_t s = 0; s < size; s++) {
        const unsigned bin = states[s];
        const uint32_t x = next[bin]++;
        /* From the next power of two on, a state reads one bit less. */
        const uint32_t e = entry_of[bin] - (x >> log2_next[bin]) * (1u | 1u << 16);
        states[s] = e | ((x << STATE_BITS(e)) - size) << 20;
    }
}

/* Returns at least 57 bits from bit `at` on. */
static ALWAYS_INLINE uint64_t bits_at(const uint8_t *data, uint64_t at) {
    return load64(data + (at >> 3)) >> (at & 7);
}

static uint64_t bits_at_end(const stream *s) {
    uint64_t bits = 0, at = s->at >> 3;
    if (s->size >= 8 && at <= s->size - 8) return bits_at(s->data, s->at);
    for (unsigned i = 0; i < 8 && at < s->size; i++, at++) bits |= (uint64_t)s->data[at] << 8 * i;
    return bits >> (s->at & 7);
}

/* Takes the symbol of state `e` off the bits; returns the element.
   `most`: bits it takes, 0 if none are extra. */
static ALWAYS_INLINE uint32_t take(uint64_t *bits, uint32_t e, uint32_t *state,
                                   const uint32_t *values, unsigned shift, unsigned most,
                                   int wide) {
    const unsigned n = STATE_BITS(e);
    uint32_t element = wide ? values[VALUE(e)] : VALUE(e);
    if (most == 0) {
        *state = STATE_BASE(e) + ((uint32_t)*bits & ((1u << (e & 31)) - 1));
    } else if (most < 32) {
        const uint32_t taken = (uint32_t)*bits & ((1u << (e & 31)) - 1), extra = taken >> n;
        *state = STATE_BASE(e) + (taken - (extra << n));
        element += extra << shift;
    } else {
        const uint64_t taken = *bits & (((uint64_t)1 << TAKES(e)) - 1), extra = taken >> n;
        *state = STATE_BASE(e) + (uint32_t)(taken - (extra << n));
        element += (uint32_t)extra << shift;
    }
    *bits >>= TAKES(e);
    return element;
}

/* Decodes rounds of 8 symbols, as long as no read can pass the end; returns how many symbols.
   The states stay in memory, as there are not enough registers. What symbols take does not depend
   on the bits, so the next load need not wait until these are shifted out. */
static ALWAYS_INLINE size_t run_lanes(stream *s, const symbols *y, void *to, size_t count,
                                      unsigned per_load, unsigned most, int wide) {
    uint8_t *bytes = to;
    uint32_t *words = to;
    const uint8_t *slots = y->slots, *data = s->data;
    const uint32_t *const *states = y->states;
    const unsigned shift = y->shift;
    const uint64_t last = s->size < 64 ? 0 : 8 * ((uint64_t)s->size - 63);
    uint64_t bits = 0, at = s->at;
    uint32_t sum = 0;
    size_t done = 0;
#define TAKE(i)                                                                                    \
    do {                                                                                           \
        const unsigned slot = slots[done + i];                                                     \
        const uint32_t e = states[slot][s->state[i]];                                              \
        if (i % per_load == 0) bits = bits_at(data, at), sum = 0;                                  \
        const uint32_t element = take(&bits, e, &s->state[i], y->values[slot], shift, most, wide); \
        sum += e;                                                                                  \
        if (i % per_load == per_load - 1 || i == 7) at += sum & 255;                               \
        if (wide) words[done + i] = element;                                                       \
        else bytes[done + i] = (uint8_t)element;                                                   \
    } while (0)
    for (; count - done >= 8 && at < last; done += 8) {
        TAKE(0);
        TAKE(1);
        TAKE(2);
        TAKE(3);
        TAKE(4);
        TAKE(5);
        TAKE(6);
        TAKE(7);
    }
#undef TAKE
    s->at = at;
    return done;
}

/* Decodes `count` symbols to bytes or, if elements are wide, to 32-bit words. */
static void run(stream *s, const symbols *y, void *to, size_t count) {
    size_t done = 0;
    if (s->lanes == 8) {
        /* A load gives 57 bits. */
        if (y->wide) {
            done = run_lanes(s, y, to, count, 1, 57, 1);
        } else if (y->plain) {
            done = run_lanes(s, y, to, count, 4, 0, 0);
        } else if (y->most <= 14) {
            done = run_lanes(s, y, to, count, 4, 14, 0);
        } else if (y->most <= 19) {
            done = run_lanes(s, y, to, count, 3, 19, 0);
        }
    }
    for (; done < count; done++) {
        uint64_t bits = bits_at_end(s);
        const unsigned slot = y->slots[done];
        const uint32_t e = y->states[slot][s->state[s->lane]];
        const uint32_t element =
            take(&bits, e, &s->state[s->lane], y->values[slot], y->shift, 57, y->wide);
        s->at += TAKES(e);
        s->lane = (s->lane + 1) & (s->lanes - 1);
        if (y->wide) ((uint32_t *)to)[done] = element;
        else ((uint8_t *)to)[done] = (uint8_t)element;
    }
}

static void start_chunk(stream *s, const uint8_t *data, size_t size, uint64_t weights,
                        unsigned bits) {
    static const stream none = {{0}, NULL, 0, 0, 0, 0};
    *s = none;
    s->data = data;
    s->size = size;
    s->lanes = weights < MANY_LANES ? 1 : 8;
    for (unsigned lane = 0; lane < s->lanes; lane++, s->at += bits) {
        s->state[lane] = (uint32_t)bits_at_end(s) & ((1u << bits) - 1);
    }
}

/* Whether a chunk ended at its last bit but for padding with zeros, and all lanes at state 0. */
static int check_end(const stream *s) {
    const uint64_t bits = 8 * (uint64_t)s->size;
    uint32_t states = 0;
    for (unsigned lane = 0; lane < 8; lane++) states |= s->state[lane];
    return s->at > bits || bits - s->at >= 8 || states || bits_at_end(s) ? TQW_BAD_CHUNK : TQW_OK;
}

/* A TANS or DELTA tensor while it is decoded. */
typedef struct {
    work *w;
    const entry *e;
    const uint8_t *base; /* of a DELTA, or NULL */
    output *out;
    symbols y;
    uint8_t cells[MAX_CELLS]; /* automaton of each cell */
    const uint8_t *rows, *second;
    unsigned packed, packed_bits; /* elements of less than a byte that wait for the rest of it */
} decoding;

/* Reads a table again. It was right before, but a mapped file may have changed since. */
static int load_table(const tqw_file *file, unsigned number) {
    work *w = file->work;
    reader r = section(file, POOL, TQW_BAD_TABLE);
    r.at = w->pool_at[number];
    const int error = read_table(&r, &w->parsed);
    return error || w->parsed.bits == w->pool_bits[number] ? error : TQW_BAD_TABLE;
}

/* Gives the place in `states` of a table's automaton, which is built if it is not there yet. */
static int load_automaton(const tqw_file *file, const entry *e, unsigned number, uint64_t *used,
                          uint8_t *at) {
    work *w = file->work;
    const uint32_t key = 1u << 31 | e->log2_bits << 16 | e->shift << 8 | number;
    const unsigned bits = w->pool_bits[number], places = TENSOR_STATES >> bits;
    if (w->automata_bits != bits) clear((uint8_t *)w->automata, sizeof w->automata);
    w->automata_bits = bits;
    unsigned place = 0;
    while (place < places && w->automata[place].key != key) place++;
    if (place == places) {
        do {
            place = w->victim = (w->victim + 1) % places;
        } while (*used >> place & 1);
        const int error = load_table(file, number);
        w->automata[place].key = 0;
        if (error) return error;
        build(&w->parsed, &w->automata[place], w->states + ((size_t)place << bits),
              w->values[place], e->shift, 1u << e->log2_bits);
        w->automata[place].key = key;
    }
    *used |= (uint64_t)1 << place;
    *at = (uint8_t)place;
    return TQW_OK;
}

static int load_automata(const tqw_file *file, decoding *d) {
    const entry *e = d->e;
    uint64_t used = 0;
    d->y.bits = d->w->pool_bits[e->tables[0]];
    d->y.shift = e->shift;
    d->y.wide = e->log2_bits > 3;
    d->y.values = d->w->values;
    d->y.slots = d->w->slots;
    d->y.mapped = e->cells > 1;
    d->y.plain = 1;
    for (unsigned cell = 0; cell < e->cells; cell++) {
        const int error = load_automaton(file, e, e->tables[cell], &used, &d->cells[cell]);
        if (error) return error;
        const automaton *a = &d->w->automata[d->cells[cell]];
        d->y.plain &= a->plain;
        if (a->most > d->y.most) d->y.most = a->most;
        d->y.states[d->cells[cell]] = d->w->states + ((size_t)d->cells[cell] << d->y.bits);
    }
    if (d->y.mapped) return TQW_OK;
    const size_t filled = least(e->weights, PIECE);
    for (size_t i = 0; i < filled; i++) d->w->slots[i] = d->cells[0];
    return TQW_OK;
}

/* Decodes the classes of rows and of the second axis. */
static int decode_map(const tqw_file *file, decoding *d, const uint8_t *coded) {
    work *w = d->w;
    const entry *e = d->e;
    const size_t weights = (size_t)map_weights(e),
                 rows = e->row_classes > 1 ? (size_t)e->shape[0] : 0;
    automaton a;
    symbols y = {0};
    stream s;
    const int error = load_table(file, e->map_table);
    if (error) return error;
    build(&w->parsed, &a, w->map_states, NULL, 0, 8);
    y.states[0] = w->map_states;
    y.bits = w->parsed.bits;
    y.plain = a.plain;
    y.most = a.most;
    y.values = w->values;
    y.slots = w->slots;
    start_chunk(&s, coded, (size_t)e->map_bytes, weights, y.bits);
    clear(w->slots, least(weights, PIECE));
    for (size_t at = 0; at < weights; at += PIECE)
        run(&s, &y, w->classes + at, least(weights - at, PIECE));
    for (size_t i = 0; i < weights; i++) {
        if (w->classes[i] >= (i < rows ? e->row_classes : e->axis_classes)) return TQW_BAD_CHUNK;
    }
    d->rows = w->classes;
    d->second = w->classes + rows;
    return check_end(&s);
}

static void make_categories(const entry *e, uint8_t category[256]) {
    const int bits = 1 << e->log2_bits, threshold = (int)e->threshold;
    for (int i = 0; i < 256; i++) {
        int v = i & ((1 << bits) - 1);
        if (v >> (bits - 1)) v -= 1 << bits;
        v = v < 0 ? -((-v + (1 << e->shift) - 1) >> e->shift) : v >> e->shift;
        category[i] = (uint8_t)(v == 0           ? 0
                                : v > threshold  ? 2
                                : v > 0          ? 1
                                : v < -threshold ? 4
                                                 : 3);
    }
}

/* Element `j` of the bytes of a tensor, if elements are bytes or several to a byte. */
static unsigned element_at(const uint8_t *data, uint64_t j, unsigned log2_bits) {
    const unsigned per_byte = 3 - log2_bits;
    return (unsigned)data[j >> per_byte] >> ((j & ((1u << per_byte) - 1)) << log2_bits);
}

/* Returns the slots of all columns in rows of a class. */
static const uint8_t *column_slots(decoding *d, unsigned row_class, const uint8_t *cells) {
    const unsigned columns = last_dimension(d->e), room = MAX_CLASSED / columns;
    const unsigned at = row_class % (room < 16 ? room : 16);
    uint8_t *line = d->w->lines + (size_t)at * columns;
    if (d->w->line_class[at] == (int)row_class) return line;
    d->w->line_class[at] = (int)row_class;
    for (unsigned i = 0; i < columns; i++) line[i] = cells[d->second[i]];
    return line;
}

/* Fills the slots by what is decoded to the left and above; the weights will go to `done`. */
static void fill_by_neighbours(const decoding *d, uint64_t j, uint8_t *slots, const uint8_t *done,
                               size_t count, const uint8_t *cells) {
    const size_t inputs = last_dimension(d->e), line = (size_t)d->e->shape[2] * inputs;
    size_t inside = (size_t)(j % d->e->row);
    uint8_t slot[CATEGORIES * CATEGORIES];
    for (unsigned i = 0; i < sizeof slot; i++) slot[i] = cells[d->second[i]];
    while (count) {
        const size_t part = least(count, inputs - inside % inputs);
        const uint8_t *left = inside % line >= inputs ? d->w->category : d->w->no_category;
        const uint8_t *upper = inside >= line ? d->w->category : d->w->no_category;
        const uint8_t *before = done - inputs, *above = done - line;
        for (size_t i = 0; i < part; i++) slots[i] = slot[5 * upper[above[i]] + left[before[i]]];
        slots += part;
        done += part;
        inside += part;
        count -= part;
    }
}

/* Fills the slots of `count` weights of one row from weight `j` on. */
static void fill_row(decoding *d, uint64_t j, uint8_t *slots, const uint8_t *done, size_t count) {
    const entry *e = d->e;
    const unsigned row_class = e->row_classes > 1 ? d->rows[j / e->row] : 0;
    const uint8_t *cells = d->cells + row_class * e->axis_classes;
    if (e->axis == NO_AXIS) {
        for (size_t i = 0; i < count; i++) slots[i] = cells[0];
    } else if (e->axis == COLUMNS) {
        const uint8_t *line = column_slots(d, row_class, cells);
        const unsigned columns = last_dimension(e);
        for (size_t column = (size_t)(j % columns); count; column = 0) {
            const size_t part = least(count, columns - column);
            copy(slots, line + column, part);
            slots += part;
            count -= part;
        }
    } else if (e->axis == BASE_CODES) {
        for (size_t i = 0; i < count; i++) {
            slots[i] = cells[d->second[d->w->category[element_at(d->base, j + i, e->log2_bits)]]];
        }
    } else {
        fill_by_neighbours(d, j, slots, done, count, cells);
    }
}

static void fill_slots(decoding *d, uint64_t j, const uint8_t *done, size_t count) {
    for (size_t at = 0; at < count;) {
        const size_t part = least(d->e->row - (j + at) % d->e->row, count - at);
        fill_row(d, j + at, d->w->slots + at, done + at, part);
        at += part;
    }
}

static void add_base(const decoding *d, uint64_t j, size_t count) {
    const unsigned log2_bits = d->e->log2_bits;
    uint8_t *bytes = d->w->window.bytes + REACH;
    uint32_t *words = d->w->window.wide;
    for (size_t i = 0; i < count; i++, j++) {
        if (log2_bits <= 3) {
            bytes[i] = (uint8_t)(bytes[i] + element_at(d->base, j, log2_bits));
        } else if (log2_bits == 4) {
            words[i] += (uint32_t)d->base[2 * j] | (uint32_t)d->base[2 * j + 1] << 8;
        } else {
            words[i] += load32(d->base + 4 * j);
        }
    }
}

/* Writes `count` elements of the window; `is_last`: no more follow. */
static int put_elements(decoding *d, size_t count, int is_last) {
    const unsigned log2_bits = d->e->log2_bits, bits = 1u << log2_bits;
    const uint32_t *words = d->w->window.wide;
    uint8_t *bytes = log2_bits > 3 ? d->w->window.bytes : d->w->window.bytes + REACH;
    size_t size = count;
    if (log2_bits > 3) {
        const unsigned element_bytes = bits / 8;
        for (size_t i = 0; i < count; i++) {
            const uint32_t word = words[i];
            for (unsigned k = 0; k < element_bytes; k++)
                bytes[element_bytes * i + k] = (uint8_t)(word >> 8 * k);
        }
        size = count * element_bytes;
    } else if (log2_bits < 3) {
        size = 0;
        for (size_t i = 0; i < count; i++) {
            d->packed |= (bytes[i] & ((1u << bits) - 1)) << d->packed_bits;
            d->packed_bits += bits;
            if (d->packed_bits == 8)
                bytes[size++] = (uint8_t)d->packed, d->packed = d->packed_bits = 0;
        }
        if (is_last && d->packed_bits) bytes[size++] = (uint8_t)d->packed;
    }
    return put_tensor(d->w, d->out, bytes, size);
}

static int decode_chunk(decoding *d, const uint8_t *coded, size_t size, uint64_t j,
                        uint64_t weights) {
    const entry *e = d->e;
    const uint64_t end = j + weights;
    const size_t block = e->axis == NEIGHBOURS ? last_dimension(e) / 8 * 8 : PIECE;
    const size_t reach = e->axis == NEIGHBOURS ? (size_t)(e->shape[2] * e->shape[3]) : 0;
    uint8_t *bytes = d->w->window.bytes + REACH, *history = bytes - reach;
    stream s;
    clear(history, reach);
    start_chunk(&s, coded, size, weights, d->y.bits);
    while (j < end) {
        const size_t piece = least(end - j, PIECE);
        for (size_t at = 0; at < piece; at += block) {
            const size_t part = least(block, piece - at);
            if (d->y.mapped) fill_slots(d, j + at, bytes + at, part);
            run(&s, &d->y, d->y.wide ? (void *)d->w->window.wide : bytes + at, part);
        }
        if (d->base) add_base(d, j, piece);
        j += piece;
        const int error = put_elements(d, piece, j == e->weights);
        if (error) return error;
        for (size_t i = 0; i < reach; i++) history[i] = history[piece + i];
    }
    return check_end(&s);
}

static int decode_tans(const tqw_file *file, const entry *e, const uint8_t *coded, output *out) {
    decoding d = {0};
    d.w = file->work;
    d.e = e;
    d.out = out;
    if (e->codec == TQW_DELTA) d.base = file->base + e->base_at;
    uint64_t left = e->coded - e->map_bytes;
    int error = e->cells > 1 ? decode_map(file, &d, coded) : TQW_OK;
    if (!error) error = load_automata(file, &d);
    if (error) return error;
    coded += e->map_bytes;
    if (e->axis >= NEIGHBOURS) make_categories(e, d.w->category);
    for (unsigned i = 0; i < 16; i++) d.w->line_class[i] = -1;
    reader sizes = section(file, INDEX, TQW_BAD_ENTRY);
    sizes.at = e->sizes_at;
    const uint64_t step = chunk_step(e);
    for (uint64_t j = 0; j < e->weights; j += step) {
        const uint64_t size = read_varint(&sizes);
        if (size > left) return TQW_BAD_CHUNK;
        error =
            decode_chunk(&d, coded, (size_t)size, j, e->weights - j < step ? e->weights - j : step);
        if (error) return error;
        coded += size;
        left -= size;
    }
    return TQW_OK;
}

static int decode_entry(const tqw_file *file, const entry *e, uint64_t coded_at, output *out) {
    work *w = file->work;
    const size_t size = file->sections[CHUNKS].size;
    if (coded_at > size || e->coded > size - coded_at) return TQW_BAD_CHUNK;
    const uint8_t *coded = file->data + file->sections[CHUNKS].at + coded_at;
    int error = TQW_OK;
    out->crc = 0;
    if (e->codec == TQW_RAW) {
        for (uint64_t at = 0; at < e->bytes && !error; at += PIECE) {
            error = put_tensor(w, out, coded + at, least(e->bytes - at, PIECE));
        }
    } else if (e->codec == TQW_CONST) {
        for (size_t i = 0; i < sizeof w->buffer; i++) w->buffer[i] = coded[i % e->coded];
        error = put_repeated(w, out, e->bytes, sizeof w->buffer, 1);
    } else {
        error = decode_tans(file, e, coded, out);
    }
    return error ? error : DIFFERS(out->crc, e->crc) ? TQW_BAD_CHECKSUM : TQW_OK;
}

/* ---- SKELETON: literals, LZMA2 with lc = 0, lp = 2, pb = 2 ---- */

enum { PROPERTIES = 0x6C };

/* What the literals' window holds at first: export/container/format/dictionary.py. */
/* clang-format off */
static const uint8_t DICTIONARY[1024] = {
    98, 105, 97, 115, 20, 0, 0, 0, 0, 0, 0, 8, 16, 0, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 32, 0, 0, 0,
    2, 0, 0, 0, 0, 0, 6, 0, 8, 0, 7, 0, 6, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0,
    3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 14, 0, 22, 0, 0, 0, 16, 0, 12, 0, 11, 0, 4, 0, 11, 0, 0, 0, 115,
    116, 101, 109, 47, 107, 101, 114, 110, 101, 108, 0, 4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0,
    0, 3, 0, 0, 0, 20, 0, 24, 0, 20, 0, 0, 0, 28, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 9, 48, 0, 0, 0, 2,
    0, 0, 0, 255, 255, 255, 255, 5, 0, 0, 0, 36, 0, 0, 0, 40, 0, 0, 0, 0, 0, 10, 0, 16, 0, 15, 0, 8,
    0, 4, 0, 10, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 114, 110, 101, 108, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0,
    0, 0, 3, 0, 0, 0, 20, 0, 0, 0, 36, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 9, 56, 0, 0, 0, 4, 0, 0, 0,
    255, 255, 255, 255, 7, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 18, 0, 16, 0, 0, 0, 0, 0, 12, 0, 8, 0, 0, 0, 0, 0, 4, 0, 18, 0, 0, 0, 3, 0, 0, 0,
    8, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 10, 28, 0, 0, 0, 32, 0, 0, 0, 3, 0, 0, 0, 0, 0, 6, 0, 8, 0, 4,
    0, 6, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 1, 36, 0, 0, 0, 40, 0, 0, 0, 12, 0,
    16, 0, 0, 0, 12, 0, 8, 0, 7, 0, 12, 0, 0, 0, 0, 0, 10, 0, 16, 0, 12, 0, 8, 0, 4, 0, 10, 0, 0, 0,
    12, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0,
    0, 0, 0, 14, 0, 24, 0, 20, 0, 16, 0, 12, 0, 11, 0, 4, 0, 9, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 9, 12,
    0, 14, 0, 13, 0, 0, 0, 8, 0, 4, 0, 12, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 0, 40, 10, 0, 8, 0, 0,
    0, 0, 0, 4, 0, 10, 0, 0, 0, 2, 0, 0, 0, 240, 255, 255, 255, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 4,
    12, 0, 16, 0, 15, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0,
    0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 14, 0, 20, 0, 0, 0, 0, 0, 14, 0, 26, 0, 20, 0, 16,
    0, 12, 0, 11, 0, 4, 0, 14, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 5, 52, 0, 0, 0, 56, 0, 0, 0, 1, 0, 0,
    0, 0, 0, 14, 0, 24, 0, 23, 0, 16, 0, 12, 0, 8, 0, 4, 0, 14, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2,
    0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0,
    128, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 4, 0, 4, 0, 0, 0, 1, 0, 0,
    0, 16, 0, 0, 0, 12, 0, 20, 0, 16, 0, 12, 0, 8, 0, 4, 0, 12, 0, 0, 0, 16, 0, 0, 0, 0, 0, 14, 0,
    24, 0, 20, 0, 19, 0, 12, 0, 8, 0, 4, 0, 14, 0, 0, 0, 20, 0, 0, 0, 84, 70, 76, 51, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 14, 0, 20, 0, 16, 0, 12, 0, 8, 0, 0, 0, 4, 0, 14, 0, 0, 0, 16, 0, 0, 0, 3, 0, 0,
    0, 20, 0, 24, 0, 20, 0, 19, 0, 0, 0, 12, 0, 8, 0, 0, 0, 0, 0, 4, 0, 20, 0, 0, 0, 20, 0, 0, 0,
    48, 0, 0, 0, 0, 0, 14, 0, 20, 0, 0, 0, 16, 0, 12, 0, 11, 0, 4, 0, 14, 0, 0, 0, 28, 0, 0, 0, 0,
    0, 0, 1, 40, 0, 0, 0, 44, 0, 0, 0, 12, 0, 20, 0, 19, 0, 12, 0, 8, 0, 7, 0, 12, 0, 0, 0, 0, 0, 0,
    1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
    0, 2, 0, 0, 0, 1, 0, 0, 0, 12, 0, 16, 0, 15, 0, 0, 0, 8, 0, 4, 0, 12, 0, 0, 0, 3, 0, 0, 0, 3, 0,
    0, 0, 0, 0, 0, 3, 12, 0, 12, 0, 0, 0, 0, 0, 8, 0, 4, 0, 12, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0, 1,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0,
};
/* clang-format on */

static uint32_t next_byte(lzma *z) {
    if (z->at < z->chunk_end) return z->data[z->at++];
    z->chunk_end = 0; /* remembered until the end of the chunk */
    return 0;
}

static void normalize(lzma *z) {
    if (z->range >> 24) return;
    z->range <<= 8;
    z->code = z->code << 8 | next_byte(z);
}

static unsigned get_bit(lzma *z, uint16_t *probability) {
    normalize(z);
    const uint32_t bound = (z->range >> 11) * *probability;
    if (z->code < bound) {
        z->range = bound;
        *probability = (uint16_t)(*probability + ((2048 - *probability) >> 5));
        return 0;
    }
    z->range -= bound;
    z->code -= bound;
    *probability = (uint16_t)(*probability - (*probability >> 5));
    return 1;
}

static unsigned get_tree(lzma *z, uint16_t *tree, unsigned bits) {
    unsigned node = 1;
    for (unsigned i = 0; i < bits; i++) node = 2 * node + get_bit(z, tree + node);
    return node - (1u << bits);
}

static unsigned get_reverse_tree(lzma *z, uint16_t *tree, unsigned bits) {
    unsigned node = 1, value = 0;
    for (unsigned i = 0; i < bits; i++) {
        const unsigned bit = get_bit(z, tree + node);
        node = 2 * node + bit;
        value |= bit << i;
    }
    return value;
}

static uint32_t get_direct(lzma *z, unsigned bits) {
    uint32_t value = 0;
    while (bits--) {
        normalize(z);
        z->range >>= 1;
        const uint32_t bit = z->code >= z->range;
        if (bit) z->code -= z->range;
        value = value << 1 | bit;
    }
    return value;
}

static unsigned get_length(lzma *z, lengths *p, unsigned position) {
    if (!get_bit(z, &p->choice[0])) return 2 + get_tree(z, p->low[position], 3);
    if (!get_bit(z, &p->choice[1])) return 10 + get_tree(z, p->middle[position], 3);
    return 18 + get_tree(z, p->high, 8);
}

static uint32_t get_distance(lzma *z, unsigned length) {
    const unsigned slot = get_tree(z, z->p.slot[length < 6 ? length - 2 : 3], 6);
    if (slot < 4) return slot;
    const unsigned bits = slot / 2 - 1;
    const uint32_t base = (2 | (slot & 1u)) << bits;
    if (slot < 14) return base + get_reverse_tree(z, z->p.special + base - slot, bits);
    const uint32_t high = get_direct(z, bits - 4) << 4;
    return base + high + get_reverse_tree(z, z->p.align, 4);
}

static uint8_t earlier(const lzma *z, uint32_t distance) {
    return z->window[(z->place - distance - 1) & (WINDOW - 1)];
}

static uint8_t get_literal(lzma *z) {
    uint16_t *tree = z->p.literal[z->place & 3];
    unsigned node = 1;
    if (z->state >= 7) {
        /* After a match the byte differs from the one that would continue it: that is the context.
         */
        for (unsigned other = 2u * earlier(z, z->rep[0]), same = 256; node < 256; other <<= 1) {
            const unsigned expected = other & same;
            const unsigned bit = get_bit(z, tree + node + same + expected);
            node = 2 * node + bit;
            same &= bit ? expected : ~expected & 256u;
        }
    } else {
        while (node < 256) node = 2 * node + get_bit(z, tree + node);
    }
    z->state -= z->state < 4 ? z->state : z->state < 10 ? 3 : 6;
    return (uint8_t)node;
}

/* Takes the distance of a repeated match to the front; returns its length. */
static unsigned get_rep(lzma *z, unsigned position) {
    probabilities *p = &z->p;
    const unsigned after_match = z->state >= 7;
    unsigned which = 0;
    if (!get_bit(z, &p->is_rep0[z->state])) {
        if (!get_bit(z, &p->is_long_rep0[z->state][position])) {
            z->state = after_match ? 11 : 9;
            return 1;
        }
    } else {
        which = get_bit(z, &p->is_rep1[z->state]) ? 2 + get_bit(z, &p->is_rep2[z->state]) : 1;
    }
    const uint32_t distance = z->rep[which];
    for (; which; which--) z->rep[which] = z->rep[which - 1];
    z->rep[0] = distance;
    z->state = after_match ? 11 : 8;
    return get_length(z, &p->rep, position);
}

/* Reads a literal, which it returns, or a match, for which it returns -1. */
static int next_symbol(lzma *z) {
    probabilities *p = &z->p;
    const unsigned position = z->place & 3;
    if (!get_bit(z, &p->is_match[z->state][position])) return get_literal(z);
    if (get_bit(z, &p->is_rep[z->state])) {
        z->length = get_rep(z, position);
        return -1;
    }
    for (unsigned i = 3; i; i--) z->rep[i] = z->rep[i - 1];
    z->length = get_length(z, &p->match, position);
    z->rep[0] = get_distance(z, z->length);
    z->state = z->state < 7 ? 7 : 10;
    return -1;
}

static void reset_state(lzma *z) {
    uint16_t *p = (uint16_t *)&z->p;
    for (size_t i = 0; i < sizeof z->p / sizeof *p; i++) p[i] = ONE_HALF;
    z->state = 0;
    for (unsigned i = 0; i < 4; i++) z->rep[i] = 0;
}

static int start_lzma_chunk(lzma *z) {
    uint8_t head[6] = {0};
    unsigned control = 0;
    for (size_t need = 1, i = 0; i < need; i++) {
        if (z->at == z->size) return TQW_BAD_LITERALS;
        head[i] = z->data[z->at++];
        control = head[0];
        if (i == 0) need = control == 0 ? 1 : control < 128 ? 3 : control < 0xC0 ? 5 : 6;
    }
    if (control == 0) {
        z->mode = ENDED;
        return TQW_OK;
    }
    z->left = ((control & 128 ? control & 31u : 0) << 16 | (uint32_t)head[1] << 8 | head[2]) + 1;
    if (control < 128) {
        z->mode = STORED;
        if (z->missing == 0) z->missing = 1;
        return control == 2 && z->left <= z->size - z->at ? TQW_OK : TQW_BAD_LITERALS;
    }
    const unsigned reset = control >> 5 & 3;
    const size_t packed = ((size_t)head[3] << 8 | head[4]) + 1;
    if (reset == 3 || reset < z->missing || (reset == 2 && head[5] != PROPERTIES))
        return TQW_BAD_LITERALS;
    if (packed < 5 || packed > z->size - z->at || z->data[z->at]) return TQW_BAD_LITERALS;
    if (reset) reset_state(z);
    z->missing = 0;
    z->mode = CODED;
    z->chunk_end = z->at + packed;
    z->range = 0xFFFFFFFFu;
    z->code = 0;
    for (unsigned i = 0; i < 5; i++) z->code = z->code << 8 | next_byte(z);
    return TQW_OK;
}

/* Makes the next byte, or none (-1) if a chunk or the stream starts or ends. */
static int next_literal(lzma *z, int *error) {
    if (z->mode == BETWEEN) {
        *error = start_lzma_chunk(z);
        return -1;
    }
    if (!z->left) {
        if (z->mode == CODED) normalize(z);
        if (z->mode == CODED && (z->code || z->at != z->chunk_end)) *error = TQW_BAD_LITERALS;
        z->mode = BETWEEN;
        return -1;
    }
    if (z->mode == STORED) return z->data[z->at++];
    if (!z->length) {
        const int byte = next_symbol(z);
        if (byte >= 0) return byte;
        if (!z->chunk_end || z->rep[0] >= z->filled || z->length > z->left) {
            *error = TQW_BAD_LITERALS;
            return -1;
        }
    }
    z->length--;
    return earlier(z, z->rep[0]);
}

static void remember(lzma *z, uint8_t byte) {
    z->window[z->place] = byte;
    z->place = (z->place + 1) & (WINDOW - 1);
    if (z->filled < WINDOW) z->filled++;
}

/* Makes up to `size` bytes of literals; fewer only if the stream ends. */
static int make_literals(lzma *z, uint8_t *out, size_t size, size_t *done) {
    int error = TQW_OK;
    for (*done = 0; *done < size && z->mode != ENDED;) {
        const int byte = next_literal(z, &error);
        if (error) return error;
        if (byte < 0) continue;
        z->left--;
        remember(z, (uint8_t)byte);
        out[(*done)++] = (uint8_t)byte;
    }
    return TQW_OK;
}

static void start_literals(lzma *z, const tqw_file *file) {
    const reader r = section(file, SKELETON, TQW_BAD_LITERALS);
    z->data = r.data + file->literals;
    z->size = r.size - file->literals;
    z->at = 0;
    z->mode = BETWEEN;
    z->missing = 2;
    z->length = 0;
    z->left = z->filled = z->place = 0;
    for (unsigned i = 0; i < sizeof DICTIONARY; i++) remember(z, DICTIONARY[i]);
}

/* Whether the stream ends here, at the end of the section. */
static int end_literals(lzma *z) {
    uint8_t byte;
    size_t done;
    if (!z->size) return TQW_OK;
    const int error = make_literals(z, &byte, 1, &done);
    if (error) return error;
    return done || z->at < z->size ? TQW_BAD_LITERALS : TQW_OK;
}

/* ---- the whole file ---- */

static int put_literals(work *w, output *out, uint64_t length) {
    while (length) {
        size_t done;
        const size_t part = least(length, PIECE);
        int error = make_literals(&w->literals, w->window.bytes, part, &done);
        if (!error && done < part) error = TQW_BAD_LITERALS;
        if (!error) error = put(out, w->window.bytes, part);
        if (error) return error;
        length -= part;
    }
    return TQW_OK;
}

/* First pass: every byte once, in order; zeros where the second pass will write. */
static int write_spans(const tqw_file *file, output *out) {
    work *w = file->work;
    walk k = start_walk(file);
    start_literals(&w->literals, file);
    while (k.at < file->output_bytes) {
        int error = next_span(&k, file);
        if (error) return error;
        if (k.kind == LITERAL) {
            error = put_literals(w, out, k.length);
        } else if (k.kind == TENSOR) {
            error = decode_entry(file, &k.tensor, k.coded, out);
        } else if (k.kind == FROM_BASE) {
            for (uint64_t at = 0; at < k.length && !error; at += PIECE) {
                error = put(out, file->base + k.a + at, least(k.length - at, PIECE));
            }
        } else {
            clear(w->buffer, sizeof w->buffer);
            error = put_repeated(w, out, k.length, sizeof w->buffer, 0);
        }
        if (error) return error;
    }
    return end_literals(&w->literals);
}

typedef union {
    uint32_t bits;
    float value;
} float_bits;

static void multiply(float factor, uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i += 4) {
        float_bits x;
        x.bits = load32(data + i);
        x.value *= factor;
        for (unsigned k = 0; k < 4; k++) data[i + k] = (uint8_t)(x.bits >> 8 * k);
    }
}

static int derive(const tqw_file *file, const tqw_sink *sink, const walk *k) {
    work *w = file->work;
    uint8_t *data = w->window.bytes;
    const uint64_t from = k->kind == PRODUCT_F32 ? k->b : k->a;
    float_bits factor = {0};
    if (k->kind == PRODUCT_F32) {
        if (sink->read(sink->user, k->a, data, 4)) return TQW_IO;
        factor.bits = load32(data);
    }
    for (uint64_t at = 0; at < k->length; at += PIECE) {
        const size_t part = least(k->length - at, PIECE);
        if (sink->read(sink->user, from + at, data, part)) return TQW_IO;
        if (k->kind == PRODUCT_F32) multiply(factor.value, data, part);
        if (sink->write(sink->user, k->at - k->length + at, data, part)) return TQW_IO;
    }
    return TQW_OK;
}

/* Second pass: what follows from other bytes. */
static int derive_spans(const tqw_file *file, const tqw_sink *sink) {
    walk k = start_walk(file);
    while (k.at < file->output_bytes) {
        int error = next_span(&k, file);
        if (!error && (k.kind == COPY || k.kind == PRODUCT_F32)) error = derive(file, sink, &k);
        if (error) return error;
    }
    return TQW_OK;
}

static int check_output(const tqw_file *file, const tqw_sink *sink) {
    work *w = file->work;
    uint8_t digest[32];
    sha256 sha;
    sha_start(&sha);
    for (uint64_t at = 0; at < file->output_bytes; at += PIECE) {
        const size_t part = least(file->output_bytes - at, PIECE);
        if (sink->read(sink->user, at, w->window.bytes, part)) return TQW_IO;
        sha_add(&sha, w->window.bytes, part);
    }
    sha_end(&sha, digest);
    return digests_differ(digest, file->sha256) ? TQW_BAD_CHECKSUM : TQW_OK;
}

int tqw_decode_to(tqw_file *file, const tqw_sink *sink) {
    if (!file || !file->work || !sink) return TQW_BAD_ARGUMENT;
    if (file->needs_base && !file->base) return TQW_WRONG_BASE;
    output out = {sink, 0, file->output_bytes, 0};
    int error = write_spans(file, &out);
    if (!error) error = derive_spans(file, sink);
    if (!error) error = check_output(file, sink);
    return error;
}

/* ---- memory as a sink ---- */

typedef struct {
    uint8_t *data;
    size_t size;
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} memory;

static int write_memory(void *user, uint64_t offset, const uint8_t *data, size_t size) {
    const memory *m = user;
    if (offset > m->size || size > m->size - offset) return 1;
    copy(m->data + offset, data, size);
    return 0;
}

static int read_memory(void *user, uint64_t offset, uint8_t *data, size_t size) {
    const memory *m = user;
    if (offset > m->size || size > m->size - offset) return 1;
    copy(data, m->data + offset, size);
    return 0;
}

static int report_memory(void *user, uint64_t done, uint64_t total) {
    const memory *m = user;
    return m->progress(m->user, done, total);
}

int tqw_decode(tqw_file *file, void *out, size_t size,
               int (*progress)(void *user, uint64_t done, uint64_t total), void *user) {
    memory m = {out, size, progress, user};
    const tqw_sink sink = {&m, write_memory, read_memory, progress ? report_memory : NULL};
    if (!file || (!out && size) || size < file->output_bytes) return TQW_BAD_ARGUMENT;
    return tqw_decode_to(file, &sink);
}

int tqw_decode_tensor(tqw_file *file, uint32_t number, void *to, size_t size) {
    memory m = {to, size, NULL, NULL};
    const tqw_sink sink = {&m, write_memory, read_memory, NULL};
    output out = {&sink, 0, size, 0};
    if (!file || !to || number >= file->tensors) return TQW_BAD_ARGUMENT;
    if (file->needs_base && !file->base) return TQW_WRONG_BASE;
    walk k = start_walk(file);
    do {
        const int error = next_span(&k, file);
        if (error) return error;
    } while (k.kind != TENSOR || number--);
    if (k.tensor.bytes > size) return TQW_BAD_ARGUMENT;
    return decode_entry(file, &k.tensor, k.coded, &out);
}

const char *tqw_strerror(int error) {
    static const char *const words[TQW_ERRORS] = {
        "no error",
        "a wrong argument: a buffer is too small, a number too large, or a pointer missing",
        "this is an update: give it the file that it was made from",
        "the output cannot be written or read back",
        "stopped by the caller",
        "not a .tqw file, or not copied in binary mode",
        "from a newer version of tfqreg: update the decoder",
        "larger than the caller's limits",
        "damaged: a number is too long or badly spelled",
        "damaged: the sections do not fill the file",
        "damaged: an impossible table",
        "damaged: an impossible tensor",
        "damaged: the spans do not make up the output",
        "damaged: the literals do not inflate to what the spans need",
        "damaged: the coded bytes do not add up",
        "damaged: a checksum does not match",
    };
    return error >= 0 && error < TQW_ERRORS ? words[error] : "unknown error";
}
