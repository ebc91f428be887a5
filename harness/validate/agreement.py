"""How well one set of figures predicts another: pure, no I/O.

Kendall's tau (tau-a, Biometrika 30, 1938) over pairs of allocators; a pair that the real server itself does not tell
apart, its figures nearer than two equal runs of one allocator are, counts neither for nor against.
"""

from statistics import median

POINTS = ["peak", "end", "idle", "purged"]


def spread(values):
    """Greatest relative distance of equal runs from each other; None of a single one."""
    return (max(values) - min(values)) / median(values) if len(values) > 1 else None


def error(predicted, real):
    """Relative error of the medians."""
    return median(predicted) / median(real) - 1


def pairs(names):
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def told_apart(real, noise, a, b):
    """Whether two of the real figures differ by more than the noise."""
    return abs(real[a] - real[b]) > noise * min(real[a], real[b])


def kendall_tau(real, predicted, noise=0.0):
    """Concordant less discordant pairs over all pairs that `real` tells apart; None when there is none.

    `real`, `predicted`: value by name; names missing in either are left out. A pair equal in `predicted` alone is half
    right, half wrong."""
    names = [name for name in real if name in predicted]
    told = [pair for pair in pairs(names) if told_apart(real, noise, *pair)]
    if not told:
        return None
    sign = lambda x: (x > 0) - (x < 0)
    agreed = [sign(real[a] - real[b]) * sign(predicted[a] - predicted[b]) for a, b in told]
    return sum(agreed) / len(told)


def extreme_agrees(real, predicted, choose, noise=0.0):
    """Whether the predicted best (`choose=min`) or worst (`max`) is the real one, or not told apart from it."""
    names = [name for name in real if name in predicted]
    if not names:
        return None
    truly = choose(names, key=real.get)
    foretold = choose(names, key=predicted.get)
    return truly == foretold or not told_apart(real, noise, truly, foretold)
