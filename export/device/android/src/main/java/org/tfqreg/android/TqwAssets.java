package org.tfqreg.android;

import android.content.Context;
import android.content.res.AssetFileDescriptor;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import org.tfqreg.Tqw;

/** Opens a .tqw among the assets of an app. The only file here that needs Android to compile. */
public final class TqwAssets {
    private TqwAssets() {}

    /** Returns the model in asset `path`, decoded once into the app's cache directory. */
    public static MappedByteBuffer open(Context context, String path) throws IOException {
        File cache = new File(context.getCacheDir(), "tqw");
        return Tqw.open(new File(path).getName(), read(context, path), null, cache);
    }

    private static ByteBuffer read(Context context, String path) throws IOException {
        try (AssetFileDescriptor asset = context.getAssets().openFd(path);
                FileInputStream stream = asset.createInputStream()) {
            FileChannel channel = stream.getChannel();
            return channel.map(FileChannel.MapMode.READ_ONLY, asset.getStartOffset(),
                    asset.getDeclaredLength());
        } catch (FileNotFoundException compressed) {
            return readCompressed(context, path);
        }
    }

    /** A compressed asset has no place in the APK to map: `noCompress "tqw"` avoids this copy. */
    private static ByteBuffer readCompressed(Context context, String path) throws IOException {
        try (InputStream stream = context.getAssets().open(path)) {
            ByteBuffer bytes = ByteBuffer.allocateDirect(1 << 16);
            byte[] part = new byte[1 << 16];
            for (int count; (count = stream.read(part)) >= 0; ) {
                if (bytes.remaining() < count) {
                    bytes.flip();
                    bytes = ByteBuffer.allocateDirect(2 * bytes.capacity() + count).put(bytes);
                }
                bytes.put(part, 0, count);
            }
            bytes.flip();
            return bytes.slice();
        }
    }
}
