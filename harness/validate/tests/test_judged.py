"""When an advice holds, and that a step is done once."""

import pathlib
import tempfile
import unittest

import judged

DEFAULT = (800.0, 10.0)


class Judging(unittest.TestCase):
    def test_an_advice_holds_near_the_least_that_is_affordable(self):
        others = [(115.0, 10.2), (60.0, 15.0), (400.0, 9.9)]
        self.assertTrue(judged.judge((120.0, 10.5), DEFAULT, others), "what costs half as much again is no measure")
        self.assertFalse(judged.judge((400.0, 9.9), DEFAULT, others), "there is one that holds far less")
        self.assertFalse(judged.judge((60.0, 15.0), DEFAULT, others), "it costs too much itself")

    def test_leaving_it_holds_where_nothing_saves_a_tenth(self):
        self.assertTrue(judged.judge(None, DEFAULT, [(730.0, 10.0), (100.0, 20.0)]))
        self.assertFalse(judged.judge(None, DEFAULT, [(700.0, 10.0)]))


class Figures(unittest.TestCase):
    def test_every_load_has_its_own_advice(self):
        loads = judged.LOADS + judged.SHIPPED
        directories = {judged.advice_directory(pathlib.Path("o"), load, tool) for load in loads for tool in ("replay", "tune")}
        self.assertEqual(len(directories), 2 * len(loads))

    def test_what_was_found_out_is_not_found_out_again(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "figures.jsonl"
            self.assertEqual(judged.Kept(path).once(("server", "x", 0), lambda: {"idle": 1}), {"idle": 1})
            again = judged.Kept(path)
            self.assertEqual(again.once(("server", "x", 0), lambda: self.fail("again")), {"idle": 1})

    def test_a_row_says_what_happened(self):
        row = {
            "load": "shipped/x", "tool": "tune", "kind": "tune", "advice": "glibc arena_max=2", "predicted_ratio": 0.3,
            "default": DEFAULT, "advised": (240.0, 10.1), "best": ["glibc arena_max=1", 230.0, 10.0], "holds": True,
        }
        self.assertEqual(judged.line(row)[3:8], ["glibc arena_max=2", "-70 %", "-70 %", "+1 %", "glibc arena_max=1: -71 %, +0 %"])
        row |= {"advice": None, "kind": "leave", "advised": None, "predicted_ratio": None}
        self.assertEqual(judged.line(row)[3:7], ["leave it", "–", "–", "–"])
