"""The pretended GPU of one test."""

import pytest
from support import fake_cupy


@pytest.fixture
def machine(monkeypatch):
    """Return a new pretended GPU, whose counts begin at 0."""
    new = fake_cupy.Machine()
    monkeypatch.setattr(fake_cupy, "machine", new)
    return new
