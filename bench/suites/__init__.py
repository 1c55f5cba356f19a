"""asv suites, one module for each concept; `bench/README.md` tells how to run them."""
