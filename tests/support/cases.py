"""Cases of one test that say the same: run in a loop, and named where they fail."""

import contextlib
import functools
import inspect

import pytest


@contextlib.contextmanager
def told_by(case):
    """Name the case of a loop in the error that comes out of it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"case: {case}")
        raise


def over(names, values):
    """Give a test these values one after the other: `parametrize` for cases that are no tests of their own."""
    names = (names,) if isinstance(names, str) else names

    def decorate(test):
        @functools.wraps(test)
        def every(*arguments, **fixtures):
            for value in values:
                case = dict(zip(names, value if len(names) > 1 else (value,), strict=True))
                with told_by(case):
                    test(*arguments, **fixtures, **case)

        signature = inspect.signature(test)
        others = [p for name, p in signature.parameters.items() if name not in names]
        every.__signature__ = signature.replace(parameters=others)
        return every

    return decorate


def slow(*cases, mark=pytest.mark.slow):
    """Return cases for `parametrize` that are marked slow; a tuple has a value for each name."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark) for case in cases]


very_slow = functools.partial(slow, mark=pytest.mark.very_slow)
