package org.tfqreg;

import java.io.IOException;

/** A container that is refused: damaged, too large, from a newer version, for another base. */
public final class TqwException extends IOException {
    private static final long serialVersionUID = 1;

    public TqwException(String message) {
        super(message);
    }
}
