"""The faults of `tests/mutation` can be planted: each is a piece of source that occurs exactly once."""

import collections

from mutation.run import ASKED, ROOT, read_mutants


def test_every_mutant_still_is_a_piece_of_source_and_its_change_is_code():
    mutants = read_mutants()
    assert [f"{m}: {problem}" for m in mutants if (problem := m.problem())] == []
    for m in mutants:
        source = (ROOT / m.file).read_text(encoding="utf-8")
        compile(source.replace(m.old, m.new), m.file, "exec")


def test_no_mutant_is_there_twice_and_every_group_has_enough():
    mutants = read_mutants()
    assert (
        len({(m.file, m.old, m.new) for m in mutants})
        == len({(m.file, m.title) for m in mutants})
        == len(mutants)
    )
    counts = collections.Counter(m.group for m in mutants)
    assert all(counts[group] >= 50 for group in ASKED)
