"""What the table says of given figures."""

import unittest

import table


def figure(part, allocator, repetition, mib):
    points = {point: mib * table.MIB for point in table.POINTS}
    return {"part": part, "scenario": "s", "allocator": allocator, "repetition": repetition, "points": points, "took_s": 1}


class Table(unittest.TestCase):
    def test_errors_are_held_to_the_target_or_the_spread(self):
        entries = [figure("server", "glibc", 0, 100), figure("server", "glibc", 1, 130)]
        entries += [figure("replay", "glibc", 0, 140), figure("server", "tcmalloc", 0, 100), figure("replay", "tcmalloc", 0, 88)]
        (row,) = table.summarize(entries)["scenarios"]
        cells = {(cell["allocator"], cell["point"]): cell for cell in row["cells"]}
        self.assertTrue(cells["glibc", "end"]["ok"])  # 140 of 115 is +22 %, the spread 26 %
        self.assertFalse(cells["tcmalloc", "end"]["ok"])
        self.assertNotIn("ok", cells["tcmalloc", "purged"])
        self.assertIn("-12.0% | **missed**", table.markdown(table.summarize(entries)))

    def test_a_failed_run_is_no_figure(self):
        failed = {"part": "replay", "scenario": "s", "allocator": "glibc", "repetition": 0, "error": "e", "took_s": 0}
        (row,) = table.summarize([figure("server", "glibc", 0, 100), failed])["scenarios"]
        self.assertNotIn("replay", row["cells"][0])
        self.assertNotIn("replay", row["ranking"])


if __name__ == "__main__":
    unittest.main()
