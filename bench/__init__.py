"""Benchmarks and the evidence that they leave; `suites` is asv's."""
