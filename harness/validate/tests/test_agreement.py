"""Rank agreement against values worked out by hand."""

import unittest

from agreement import error, extreme_agrees, kendall_tau, spread


class Agreement(unittest.TestCase):
    def test_tau_counts_pairs(self):
        real = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
        self.assertEqual(kendall_tau(real, real), 1)
        self.assertEqual(kendall_tau(real, {name: -value for name, value in real.items()}), -1)
        # One of six pairs is discordant: (5 - 1) / 6.
        self.assertAlmostEqual(kendall_tau(real, {"a": 1, "b": 2, "c": 4, "d": 3}), 4 / 6)

    def test_pairs_within_the_noise_do_not_count(self):
        real = {"a": 100.0, "b": 102.0, "c": 200.0}
        swapped = {"a": 102.0, "b": 100.0, "c": 200.0}
        self.assertAlmostEqual(kendall_tau(real, swapped), 1 / 3)
        self.assertEqual(kendall_tau(real, swapped, noise=0.05), 1)
        self.assertIsNone(kendall_tau(real, swapped, noise=5))

    def test_a_pair_predicted_equal_is_half_right(self):
        self.assertEqual(kendall_tau({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 3.0}), 0)

    def test_what_is_missing_on_one_side_is_left_out(self):
        self.assertEqual(kendall_tau({"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 3.0, "b": 4.0}), 1)
        self.assertIsNone(extreme_agrees({"a": 1.0}, {}, min))

    def test_best_and_worst(self):
        real = {"a": 100.0, "b": 104.0, "c": 200.0}
        predicted = {"a": 90.0, "b": 80.0, "c": 300.0}
        self.assertFalse(extreme_agrees(real, predicted, min))
        self.assertTrue(extreme_agrees(real, predicted, min, noise=0.05))
        self.assertTrue(extreme_agrees(real, predicted, max))

    def test_errors_and_spreads_are_relative(self):
        self.assertAlmostEqual(error([110, 90, 105], [100]), 0.05)
        self.assertAlmostEqual(spread([95, 105]), 0.1)
        self.assertIsNone(spread([95]))


if __name__ == "__main__":
    unittest.main()
