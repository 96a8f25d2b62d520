/* JNI under org.tfqreg.Tqw. Buffers are direct; a container is checked before it is used. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <jni.h>
#include <stdlib.h>
#include <string.h>

#include "../unpack.h"

static void throw_error(JNIEnv *env, const char *type, const char *words) {
    const jclass class = (*env)->FindClass(env, type);
    if (class) (*env)->ThrowNew(env, class, words);
}

static void throw_tqw(JNIEnv *env, int error, int system_error) {
    if (error == TQW_IO) throw_error(env, "java/io/IOException", strerror(system_error));
    else throw_error(env, "org/tfqreg/TqwException", tqw_strerror(error));
}

/* Opens a direct buffer; returns scratch memory to free, or NULL with an exception thrown. */
static void *open_buffer(JNIEnv *env, tqw_file *file, jobject container, jlong limit) {
    const void *data = container ? (*env)->GetDirectBufferAddress(env, container) : NULL;
    const tqw_limits limits = {(uint64_t)limit, 1u << 16};
    void *scratch = data ? malloc(TQW_SCRATCH_BYTES) : NULL;
    if (!scratch) {
        if (data) throw_error(env, "java/lang/OutOfMemoryError", "1 MB of work memory");
        else
            throw_error(env, "java/lang/IllegalArgumentException",
                        "The container is not a direct ByteBuffer.");
        return NULL;
    }
    const size_t size = (size_t)(*env)->GetDirectBufferCapacity(env, container);
    const int error = tqw_open(file, data, size, &limits, scratch, TQW_SCRATCH_BYTES);
    if (!error) return scratch;
    free(scratch);
    throw_tqw(env, error, 0);
    return NULL;
}

static jbyteArray to_java(JNIEnv *env, const uint8_t digest[32]) {
    const jbyteArray array = (*env)->NewByteArray(env, 32);
    if (array) (*env)->SetByteArrayRegion(env, array, 0, 32, (const jbyte *)digest);
    return array;
}

JNIEXPORT jbyteArray JNICALL Java_org_tfqreg_Tqw_outputSha256(JNIEnv *env, jclass class,
                                                              jobject container, jlong limit) {
    tqw_file file;
    (void)class;
    void *scratch = open_buffer(env, &file, container, limit);
    if (!scratch) return NULL;
    free(scratch);
    return to_java(env, file.sha256);
}

JNIEXPORT jlong JNICALL Java_org_tfqreg_Tqw_outputBytes(JNIEnv *env, jclass class,
                                                        jobject container, jlong limit) {
    tqw_file file;
    (void)class;
    void *scratch = open_buffer(env, &file, container, limit);
    if (!scratch) return -1;
    free(scratch);
    return (jlong)file.output_bytes;
}

JNIEXPORT jbyteArray JNICALL Java_org_tfqreg_Tqw_sha256(JNIEnv *env, jclass class, jobject buffer) {
    uint8_t digest[32];
    (void)class;
    const void *data = (*env)->GetDirectBufferAddress(env, buffer);
    const jlong size = (*env)->GetDirectBufferCapacity(env, buffer);
    tqw_sha256(data, size > 0 ? (size_t)size : 0, digest);
    return to_java(env, digest);
}

JNIEXPORT void JNICALL Java_org_tfqreg_Tqw_decode(JNIEnv *env, jclass class, jobject container,
                                                  jlong limit, jobject base, jstring path) {
    tqw_file file;
    int error = TQW_OK;
    (void)class;
    void *scratch = open_buffer(env, &file, container, limit);
    if (!scratch) return;
    if (file.needs_base && base) {
        const void *data = (*env)->GetDirectBufferAddress(env, base);
        error = tqw_set_base(&file, data, (size_t)(*env)->GetDirectBufferCapacity(env, base));
    }
    const char *chars = error ? NULL : (*env)->GetStringUTFChars(env, path, NULL);
    if (chars) error = tqw_write_to(&file, chars, NULL, NULL);
    const int system_error = errno;
    if (chars) (*env)->ReleaseStringUTFChars(env, path, chars);
    free(scratch);
    if (error) throw_tqw(env, error, system_error);
}
