"""Run `coordfit gradcheck`: compare analytic with numeric gradients in a table."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from ...encoders.registry import ENCODINGS
from ...gradcheck import ACTIVATIONS, LOSSES, TOLERANCE, GradientCheck, iterate_checks
from ..exit_codes import EXIT_GRADIENTS, EXIT_OK
from ..options import Options
from ..session import make_backend
from ..streams import print_json


def run(options: Options) -> int:
    """Check all gradients, print the table, and fail if one is wrong."""
    backend = make_backend(options, lambda message: None)
    checks = list(iterate_checks(backend, seed=options.seed))
    failed = [check for check in checks if not check.passed]
    if options.json:
        rows = [{**vars(check), "passed": check.passed} for check in checks]
        print_json({"tolerance": TOLERANCE, "device": backend.device, "failed": len(failed), "checks": rows})
    else:
        print_table(checks, options.verbose)
        verdict = (
            f"{len(failed)} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
        )
        print(f"{verdict} (tolerance {TOLERANCE:g}, float64, {backend.device})")
    return EXIT_GRADIENTS if failed else EXIT_OK


def print_table(checks: Sequence[GradientCheck], verbose: bool) -> None:
    """Print the largest error of each loss, activation and encoder; each check with `verbose`."""
    print("Largest relative error of dL/dp, by element and by random direction, one network and three")
    print(f"{'loss':<6} {'activation':<10}" + "".join(f"{encoding:>12}" for encoding in ENCODINGS))
    errors = defaultdict(list)
    for check in checks:
        errors[check.loss, check.activation, check.encoding].append(check.error)
    for loss, activation in itertools.product(LOSSES, ACTIVATIONS):
        cells = [max(errors[loss, activation, encoding]) for encoding in ENCODINGS]
        marks = [f"{error:>11.1e}{' ' if error <= TOLERANCE else '!'}" for error in cells]
        print(f"{loss:<6} {activation:<10}" + "".join(marks))
    for check in checks if verbose else [c for c in checks if not c.passed]:
        members = "one network" if check.members is None else f"{check.members} networks"
        word = "ok    " if check.passed else "FAILED"
        print(
            f"{word} {check.error:.1e}  {check.loss}, {check.activation}, {check.encoding}, {members}, "
            f"by {check.method} ({check.checked} checked)"
        )
