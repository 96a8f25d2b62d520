import pytest


@pytest.fixture(autouse=True)
def numpy_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the numpy decoder, not the C one, which tests/export/device compares."""
    monkeypatch.setenv("TFQREG_DECODER", "numpy")
