"""Define the asv suites, one module for each concept; see `bench/README.md`."""
