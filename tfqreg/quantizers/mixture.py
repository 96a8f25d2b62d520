r"""Two Gaussians fitted to the surviving weights of a kernel, and how far apart they stand.

    p(w) = sum_c lambda_c N(w; mu_c, sigma_c),    c in {-, +}

by expectation maximization, started from the mean and deviation of the negative and of the positive
weights. Their separation is W = ((mu_+ - mu_-)^2 + (sigma_+ - sigma_-)^2) / var(w): 2 is where an
even mixture of two equal Gaussians begins to have two modes.

Reference: Zhao, Gao et al. 2019, arXiv 1903.03046, section 3.
"""

from dataclasses import dataclass

import numpy as np

# The weights enter as a histogram: a step costs the same for a thousand weights and for ten
# million. A bin is then far narrower than any component of weights that spread over their range.
BINS = 2048
ITERATIONS = 200  # at most; the fit ends sooner once the likelihood stands still
STANDSTILL = 1e-9  # gain in log-likelihood per weight, within reach of float64
SMALLEST_MASS = 1e-9  # fraction of the weights; a component of less has vanished
FEWEST = 16  # weights of each sign: fewer give no mean and deviation to start from
SMALLEST_SPREAD = 1e-6  # of the weights of a sign, over the largest of them: float32 rounding


@dataclass(frozen=True)
class Mixture:
    """The two components, the lower mean first, and how far they are apart.

    Args:
        means: mu_- and mu_+.
        deviations: sigma of each.
        weights: lambda of each, which add up to 1.
        separation: W.
        log_likelihoods: means over the weights, one for each step of the fit.
    """

    means: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    separation: float
    log_likelihoods: tuple[float, ...] = ()

    def responsibility(self, w: np.ndarray) -> np.ndarray:
        """Returns the probability of the upper component for each weight."""
        components = zip(self.weights, self.means, self.deviations, strict=True)
        lower, upper = (_log_density(w.astype(np.float64), *component) for component in components)
        return 1.0 / (1.0 + np.exp(np.clip(lower - upper, -700, 700)))


def separation(means: np.ndarray, deviations: np.ndarray, variance: float) -> float:
    """Returns W, the squared Wasserstein distance of two Gaussians over the weights' variance.

    Example:
        >>> separation(np.array([-1.0, 1.0]), np.array([1.0, 1.0]), variance=2.0)
        2.0
    """
    return float(np.diff(means).item() ** 2 + np.diff(deviations).item() ** 2) / variance


def obstacle(w: np.ndarray) -> str:
    """Returns why two components cannot be fitted to surviving weights, "" if they can.

    Example:
        >>> obstacle(np.float32([0.1, 0.2, -0.3]))
        'of 3 surviving weights 1 is negative and 2 are positive, but both need 16'
    """
    sides = [w[w < 0], w[w > 0]]
    if min(side.size for side in sides) < FEWEST:
        negative, positive = (f"{side.size} {'is' if side.size == 1 else 'are'}" for side in sides)
        counts = f"of {w.size} surviving weights {negative} negative and {positive} positive"
        return f"{counts}, but both need {FEWEST}"
    if min(float(np.ptp(side) / np.abs(side).max()) for side in sides) < SMALLEST_SPREAD:
        return "all surviving weights of one sign are equal"
    return ""


def fit_mixture(w: np.ndarray) -> Mixture | None:
    """Returns two components fitted to weights, None if there are no two.

    `obstacle` says why not; one of them may also end up without weights.

    Args:
        w: surviving weights, any shape.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mixture = fit_mixture(np.concatenate([rng.normal(-4, 1, 5000), rng.normal(4, 1, 5000)]))
        >>> np.round(mixture.means), round(mixture.separation, 1)
        (array([-4.,  4.]), 3.8)
    """
    w = w.astype(np.float64).ravel()
    if obstacle(w):
        return None
    sides, spread = [w[w < 0], w[w > 0]], w.std()
    counts, edges = np.histogram(w / spread, BINS)
    x, counts = (edges[:-1] + edges[1:])[counts > 0] / 2, counts[counts > 0]
    means = np.array([side.mean() for side in sides]) / spread
    floor = edges[1] - edges[0]  # a component cannot be narrower than a bin of the histogram
    deviations = np.maximum([side.std() / spread for side in sides], floor)
    weights, likelihoods = np.array([0.5, 0.5]), []
    for _ in range(ITERATIONS):
        logs = np.stack([_log_density(x, *c) for c in zip(weights, means, deviations, strict=True)])
        total = np.logaddexp(*logs)
        likelihoods.append(float(np.average(total, weights=counts)))
        part = np.exp(logs - total) * counts
        mass = part.sum(1)
        if mass.min() < SMALLEST_MASS * mass.sum():
            return None
        weights, means = mass / mass.sum(), part @ x / mass
        deviations = np.sqrt(np.maximum((part * (x - means[:, None]) ** 2).sum(1) / mass, floor**2))
        if len(likelihoods) > 1 and likelihoods[-1] - likelihoods[-2] < STANDSTILL:
            break
    order = np.argsort(means)
    means, deviations = means[order], deviations[order]
    apart = separation(means, deviations, float((w / spread).var()))
    return Mixture(means * spread, deviations * spread, weights[order], apart, tuple(likelihoods))


def _log_density(x: np.ndarray, weight: float, mean: float, deviation: float) -> np.ndarray:
    return np.log(weight / deviation) - 0.5 * ((x - mean) / deviation) ** 2
