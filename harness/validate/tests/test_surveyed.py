"""Ratios of blocks and their interval."""

import unittest

from surveyed import interval, ratio


class Surveyed(unittest.TestCase):
    def test_a_steady_drift_cancels_within_a_block(self):
        # Speed doubles from stretch to stretch; being looked at costs a tenth.
        speeds = [1, 2, 4, 8]
        block = [(w, {"a_cpu": s * (0.9 if w else 1)}) for w, s in zip((False, True, True, False), speeds)]
        self.assertAlmostEqual(ratio(block, "a_cpu"), 0.9)

    def test_the_interval_holds_the_median_and_narrows(self):
        middle, low, high = interval([0.9, 1.0, 1.1] * 3, draws=400)
        self.assertEqual(middle, 1.0)
        self.assertTrue(0.9 <= low <= 1.0 <= high <= 1.1)
        _, narrow_low, narrow_high = interval([0.9, 1.0, 1.1] * 60, draws=400)
        self.assertLessEqual(narrow_high - narrow_low, high - low)


if __name__ == "__main__":
    unittest.main()
