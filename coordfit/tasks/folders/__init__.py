"""The folders that the command line keeps: of a run, of a sweep, and how a run goes on from its own."""
