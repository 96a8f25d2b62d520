import pytest


@pytest.fixture(autouse=True)
def numpy_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the numpy decoder, wherever the C one is installed; tests/device compares the two."""
    monkeypatch.setenv("TFQREG_DECODER", "numpy")
