"""What is made of a compare's summary, and which C library is taken."""

import os
import unittest

import same


def summary(kind, failed=0):
    ratio = {"ratio": {"median": 1.0, "lo": 0.9, "hi": 1.1}}
    cells = [{"allocator": "glibc", "failed": 0}, {"allocator": "same", "failed": failed}]
    effects = {"heap_rss_peak_bytes": ratio, "runs_per_s": ratio}
    return {"verdict": {"kind": kind, "reasons": ["r"]}, "cells": cells, "comparisons": [{"effects": effects}]}


class Same(unittest.TestCase):
    def test_what_recommends_a_change_and_what_does_not(self):
        recommends = {kind: same.outcome(summary(kind))[0] for kind in ["switch", "tune", "leave", "not_enough_data"]}
        self.assertEqual(recommends, {"switch": True, "tune": True, "leave": False, "not_enough_data": False})
        self.assertIn("peak 1.000 (0.900 to 1.100)", same.outcome(summary("leave"))[1])

    def test_a_failed_run_is_no_outcome(self):
        with self.assertRaises(same.CompareError):
            same.outcome(summary("leave", failed=1))

    def test_the_library_is_the_one_that_is_mapped(self):
        self.assertTrue(os.path.samefile(same.own_libc(), same.own_libc()) and "libc" in same.own_libc())


if __name__ == "__main__":
    unittest.main()
