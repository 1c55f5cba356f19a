"""Measure coordfit, and keep the records in `results`; `suites` belongs to asv."""
