"""Time how long a user waits before anything happens, each in a new interpreter."""


def timeraw_import():
    """`import coordfit`, which loads no array library."""
    return "import coordfit"


def timeraw_import_fit():
    """All that a fit needs."""
    return "from coordfit import fit"


def timeraw_help():
    """`coordfit fit --help`."""
    return """
    import contextlib, io
    from coordfit.cli import main
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--help"])
    """
