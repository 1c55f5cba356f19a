"""Time how long a user waits before anything happens, each in a new interpreter."""

from .common import named


@named("import coordfit")
def timeraw_import():
    """`import coordfit`, which loads no array library."""
    return "import coordfit"


@named("import all that a fit needs")
def timeraw_import_fit():
    """All that a fit needs."""
    return "from coordfit import fit"


@named("coordfit fit --help")
def timeraw_help():
    """`coordfit fit --help`."""
    return """
    import contextlib, io
    from coordfit.cli import main
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--help"])
    """
