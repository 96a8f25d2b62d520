package org.tfqreg;

import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;

/**
 * Opens a .tqw container as the memory-mapped .tflite that a TFLite or LiteRT Interpreter takes.
 *
 * <p>The model is decoded once, into a file of the given cache directory whose name holds the
 * SHA-256 of the model. Every later call maps that file, after checking that it still has this
 * SHA-256. A file that is damaged, cut short or of another version of the model is replaced. Files
 * appear whole or not at all (temporary file, fsync, rename), and a file in use by another process
 * stays valid, so any number of processes and threads may call this at once.
 */
public final class Tqw {
    /** What one MappedByteBuffer can hold. */
    private static final long MAX_OUTPUT_BYTES = Integer.MAX_VALUE;
    private static final long ABANDONED_MILLIS = TimeUnit.DAYS.toMillis(1);

    static {
        System.loadLibrary("tqw_jni");
    }

    private Tqw() {}

    /** Opens the container in a file; the cache file is named after it. */
    public static MappedByteBuffer open(File container, File cacheDirectory) throws IOException {
        return open(container.getName(), map(container), null, cacheDirectory);
    }

    /**
     * Opens a container.
     *
     * @param name of the model, a file name without directories; of the files in the cache that
     *         start with it, all
     *     but the one that is returned are removed
     * @param container the whole .tqw, a direct buffer
     * @param base the .tflite that an update was made from, a direct buffer, or null if it is no
     *         update
     * @param cacheDirectory is made if it does not exist
     * @throws TqwException the decoder refuses the container
     * @throws IOException a file cannot be read or written
     */
    public static MappedByteBuffer open(String name, ByteBuffer container, ByteBuffer base,
            File cacheDirectory) throws IOException {
        if (!container.isDirect() || (base != null && !base.isDirect()) ||
                new File(name).getParent() != null) {
            throw new IllegalArgumentException(
                    "Give direct buffers and a plain name. Received: " + name);
        }
        ByteBuffer whole = container.slice();
        byte[] sha256 = outputSha256(whole, MAX_OUTPUT_BYTES);
        File cached = new File(cacheDirectory, name + "-" + hex(sha256) + ".tflite");
        MappedByteBuffer model = mapIfRight(cached, outputBytes(whole, MAX_OUTPUT_BYTES), sha256);
        if (model == null) {
            model = decodeTo(cached, whole, base == null ? null : base.slice());
        }
        removeStale(cacheDirectory, name, cached);
        return model;
    }

    private static MappedByteBuffer decodeTo(File cached, ByteBuffer container, ByteBuffer base)
            throws IOException {
        File directory = cached.getParentFile();
        if (!directory.isDirectory() && !directory.mkdirs() && !directory.isDirectory()) {
            throw new IOException(directory + ": cannot be made");
        }
        File temporary = File.createTempFile(cached.getName(), ".tmp", directory);
        try {
            decode(container, MAX_OUTPUT_BYTES, base, temporary.getPath());
            // Mapped before it is renamed: no other process can have removed it yet.
            MappedByteBuffer model = map(temporary);
            if (!temporary.renameTo(cached)) {
                throw new IOException(cached + ": cannot be written");
            }
            return model;
        } finally {
            temporary.delete();
        }
    }

    private static MappedByteBuffer mapIfRight(File file, long size, byte[] sha256)
            throws IOException {
        try {
            MappedByteBuffer model = map(file);
            boolean right = model.capacity() == size && Arrays.equals(sha256(model), sha256);
            return right ? model : null;
        } catch (FileNotFoundException error) {
            return null;
        }
    }

    private static MappedByteBuffer map(File file) throws IOException {
        try (RandomAccessFile reader = new RandomAccessFile(file, "r")) {
            return reader.getChannel().map(FileChannel.MapMode.READ_ONLY, 0, reader.length());
        }
    }

    /** Removes other versions of a model, and temporary files of processes that died. */
    private static void removeStale(File directory, String name, File kept) {
        File[] files = directory.listFiles();
        for (File file : files == null ? new File[0] : files) {
            boolean mine = file.getName().matches(
                    java.util.regex.Pattern.quote(name) + "-[0-9a-f]{64}\\.tflite.*");
            boolean abandoned = System.currentTimeMillis() - file.lastModified() > ABANDONED_MILLIS;
            if (mine && !file.equals(kept) && (file.getName().endsWith(".tflite") || abandoned)) {
                file.delete();
            }
        }
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte b : bytes) {
            text.append(Character.forDigit(b >> 4 & 15, 16)).append(Character.forDigit(b & 15, 16));
        }
        return text.toString();
    }

    private static native byte[] outputSha256(ByteBuffer container, long maxOutputBytes)
            throws TqwException;

    private static native long outputBytes(ByteBuffer container, long maxOutputBytes)
            throws TqwException;

    private static native byte[] sha256(ByteBuffer data);

    private static native void decode(ByteBuffer container, long maxOutputBytes, ByteBuffer base,
            String path) throws IOException;
}
