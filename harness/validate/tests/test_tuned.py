"""What is read from the lines, and how the outcome is judged."""

import unittest

import tuned
from server import ServerError

LINES = '''# glibc arena_max=2
[Service]
Environment="MALLOC_ARENA_MAX=2"
Environment="X=50%% of \\"it\\""

# Verify (each line succeeds):
#   Environment="NOT=this"
[Install]
Environment="NEITHER=this"
'''


class Lines(unittest.TestCase):
    def test_only_the_service_section_counts_and_quotes_are_undone(self):
        self.assertEqual(tuned.service_environment(LINES), {"MALLOC_ARENA_MAX": "2", "X": '50% of "it"'})

    def test_what_is_not_understood_is_no_variable_left_out(self):
        with self.assertRaises(ServerError):
            tuned.service_environment("[Service]\nEnvironment=A=1 B=2\n")

    def test_a_library_that_is_not_there_is_refused(self):
        with self.assertRaises(ServerError):
            tuned.applied({"allocator": "glibc"}, {"LD_PRELOAD": "/nowhere/lib.so"})


class Judging(unittest.TestCase):
    def judge(self, predicted, default, applied):
        tuning = {"memory": "heap_rss_idle_bytes", "recommendation": {"memory_ratio": {"median": 1 - predicted}}}
        points = {"default": [{"idle": v} for v in default], "applied": [{"idle": v} for v in applied]}
        return tuned.judge(tuning, points)

    def test_the_share_is_of_the_predicted_saving(self):
        outcome = self.judge(0.8, [100, 101, 99], [40, 44, 41])
        self.assertAlmostEqual(outcome["real_saving_ratio"], 0.59)
        self.assertAlmostEqual(outcome["share_of_prediction"], 0.7375)
        self.assertTrue(outcome["holds"])

    def test_too_little_and_the_wrong_direction_do_not_hold(self):
        self.assertFalse(self.judge(0.8, [100], [50])["holds"])
        self.assertFalse(self.judge(0.8, [100], [120])["holds"])
