"""Share fakes, oracles, generators, and skips between tests."""
