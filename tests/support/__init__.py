"""What tests share: fakes, oracles, generators, and what a machine may lack."""
