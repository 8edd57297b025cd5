"""Every test has a cache and a data directory of its own."""

import pytest


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch, request):
    """Keeps tests away from the user's cache and data."""
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "cache"))
    if "real_data" not in request.fixturenames:
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
