import pytest


@pytest.fixture(autouse=True)
def numpy_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the numpy decoder; tests/export/device compares the C one."""
    monkeypatch.setenv("TFQREG_DECODER", "numpy")
