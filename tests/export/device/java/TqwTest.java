import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.tfqreg.Tqw;
import org.tfqreg.TqwException;

/** Runs Tqw on a host JVM, for test_android.py. Exits with a message at the first fault. */
public final class TqwTest {
    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("open")) {
            openManyTimes(Paths.get(arguments[1]), new File(arguments[2]),
                    Integer.parseInt(arguments[3]));
            return;
        }
        Path vectors = Paths.get(arguments[1]);
        File cache = new File(arguments[2], "cache/models");
        goodVectors(vectors.resolve("good"), cache);
        badVectors(vectors.resolve("bad"), cache);
        Path container = vectors.resolve("good/mixed.tqw");
        byte[] expected = Files.readAllBytes(vectors.resolve("good/mixed.tflite"));
        damagedCache(container, cache, expected);
        staleCache(vectors, cache);
        threads(container, cache, expected);
        unwritableCache(container, arguments[2]);
        wrongArguments(container, cache);
        System.out.println("all right");
    }

    private static void goodVectors(Path folder, File cache) throws IOException {
        for (Path path : list(folder)) {
            if (!path.toString().endsWith(".tqw")) {
                continue;
            }
            String stem = path.toString().substring(0, path.toString().length() - 4);
            Path base = Paths.get(stem + ".base");
            byte[] expected = Files.readAllBytes(Paths.get(stem + ".tflite"));
            for (int i = 0; i < 2; i++) { // decoded, then from the cache
                String name = path.getFileName().toString();
                check(open(name, path, Files.exists(base) ? base : null, cache), expected, name);
                check(inCache(cache, name) == 1, name + " is in the cache once");
            }
        }
    }

    private static void badVectors(Path folder, File cache) throws IOException {
        for (Path path : list(folder)) {
            String name = path.getFileName().toString();
            try {
                open(name, path, null, cache);
                check(false, name + " is refused");
            } catch (TqwException error) {
                check(!error.getMessage().isEmpty(), name + " is explained");
            }
            check(inCache(cache, name) == 0, name + " leaves nothing over");
        }
    }

    private static void damagedCache(Path container, File cache, byte[] expected)
            throws IOException {
        Path cached = onlyFile(cache, "mixed.tqw");
        byte[] damaged = expected.clone();
        damaged[expected.length / 2] ^= 1;
        byte[][] contents = {damaged, new byte[0], new byte[expected.length],
                java.util.Arrays.copyOf(expected, 100)};
        for (byte[] content : contents) {
            Files.write(cached, content);
            check(open("mixed.tqw", container, null, cache), expected, "a damaged cache");
            check(java.util.Arrays.equals(Files.readAllBytes(cached), expected),
                    "the cache is mended");
        }
        MappedByteBuffer before = open("mixed.tqw", container, null, cache);
        Files.delete(cached);
        check(before, expected, "a model whose file is gone");
        check(open("mixed.tqw", container, null, cache), expected, "a cache that is gone");
    }

    /** The same name with another container: the old one's cache goes, other names stay. */
    private static void staleCache(Path vectors, File cache) throws IOException {
        Path abandoned =
                cache.toPath().resolve(onlyFile(cache, "dense.tqw").getFileName() + "123.tmp");
        Files.write(abandoned, new byte[9]);
        Path other = vectors.resolve("good/two_layers.tqw");
        byte[] expected = Files.readAllBytes(vectors.resolve("good/two_layers.tflite"));
        check(open("dense.tqw", other, null, cache), expected, "another version");
        check(Files.exists(abandoned), "a temporary file that may be in use stays");
        check(abandoned.toFile().setLastModified(1000), "the time of a file can be set");
        check(open("dense.tqw", other, null, cache), expected, "another version");
        check(inCache(cache, "dense.tqw") == 1, "old versions and abandoned files are removed");
        check(inCache(cache, "mixed.tqw") == 1, "other models stay");
    }

    private static void threads(Path container, File cache, byte[] expected) throws Exception {
        AtomicInteger right = new AtomicInteger();
        Thread[] threads = new Thread[4];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> {
                try {
                    for (int k = 0; k < 20; k++) {
                        onlyFileOrNull(cache, "mixed.tqw")
                                .ifPresent(file -> file.toFile().delete());
                        check(open("mixed.tqw", container, null, cache), expected,
                                "one of many threads");
                    }
                    right.incrementAndGet();
                } catch (IOException error) {
                    error.printStackTrace();
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        check(right.get() == threads.length, "threads do not disturb each other");
    }

    private static void unwritableCache(Path container, String folder) throws IOException {
        Path file = Files.write(Paths.get(folder, "file"), new byte[1]);
        try {
            open("mixed.tqw", container, null, file.resolve("cache").toFile());
            check(false, "a cache below a file is refused");
        } catch (IOException error) {
            check(!(error instanceof TqwException), "the disk is to blame");
        }
    }

    private static void wrongArguments(Path container, File cache) throws IOException {
        ByteBuffer heap = ByteBuffer.wrap(Files.readAllBytes(container));
        for (Object[] wrong : new Object[][] {{"m.tqw", heap}, {"a/m.tqw", direct(container)}}) {
            try {
                Tqw.open((String) wrong[0], (ByteBuffer) wrong[1], null, cache);
                check(false, "wrong arguments are refused");
            } catch (IllegalArgumentException error) {
                check(error.getMessage().contains("Received"),
                        "the message says what was received");
            }
        }
    }

    /** What several processes do at once: damage the cached file, open it, and compare. */
    private static void openManyTimes(Path container, File cache, int times) throws IOException {
        Path tflite = Paths.get(container.toString().replace(".tqw", ".tflite"));
        byte[] expected = Files.readAllBytes(tflite);
        for (int i = 0; i < times; i++) {
            check(Tqw.open(container.toFile(), cache), expected, "one of many processes");
            if (i % 4 == 3) {
                onlyFileOrNull(cache, "mixed.tqw").ifPresent(file -> file.toFile().delete());
            }
        }
        System.out.println("all right");
    }

    private static MappedByteBuffer open(String name, Path container, Path base, File cache)
            throws IOException {
        return Tqw.open(name, direct(container), base == null ? null : direct(base), cache);
    }

    private static ByteBuffer direct(Path path) throws IOException {
        byte[] bytes = Files.readAllBytes(path);
        ByteBuffer buffer = ByteBuffer.allocateDirect(bytes.length + 3);
        buffer.position(3); // a slice that does not start at the buffer's first byte
        return buffer.put(bytes).flip().position(3).slice();
    }

    private static Path[] list(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.sorted().toArray(Path[]::new);
        }
    }

    private static int inCache(File cache, String name) throws IOException {
        int count = 0;
        for (Path path : list(cache.toPath())) {
            count += path.getFileName().toString().startsWith(name + "-") ? 1 : 0;
        }
        return count;
    }

    private static Path onlyFile(File cache, String name) throws IOException {
        return onlyFileOrNull(cache, name).orElseThrow();
    }

    private static java.util.Optional<Path> onlyFileOrNull(File cache, String name)
            throws IOException {
        try (Stream<Path> files = Files.list(cache.toPath())) {
            return files.filter(file -> file.getFileName().toString().matches(name + "-.*tflite"))
                    .findFirst();
        }
    }

    private static void check(MappedByteBuffer model, byte[] expected, String what) {
        check(model.isDirect() && model.compareTo(ByteBuffer.wrap(expected)) == 0,
                what + " is mapped as it was packed");
    }

    private static void check(boolean right, String what) {
        if (!right) {
            System.err.println("Not so: " + what);
            System.exit(1);
        }
    }
}
