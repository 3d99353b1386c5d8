"""Special functions of decimals, to as many digits as the context has."""

import math
from decimal import Decimal
from fractions import Fraction

HALF_LOG_2PI = Decimal("0.918938533204672741780329736405617639861397473637783412817")
LEAST = Decimal("1e-60")


def bernoulli_numbers(count):
    found = [Fraction(1)]
    for m in range(1, count):
        found.append(-sum(math.comb(m + 1, k) * b for k, b in enumerate(found)) / (m + 1))
    return found


BERNOULLI = bernoulli_numbers(42)


def log_gamma(x):
    """Of a decimal, less ``log(2 pi) / 2``: Stirling's series at ``x + 40``."""
    product = Decimal(1)
    for _ in range(40):
        product *= x
        x += 1
    total = (x - Decimal("0.5")) * x.ln() - x - product.ln()
    for k in range(2, len(BERNOULLI), 2):
        b = BERNOULLI[k]
        total += Decimal(b.numerator) / (Decimal(b.denominator) * k * (k - 1) * x ** (k - 1))
    return total


def _series(ratio):
    """``1 + r_1 + r_1 r_2 + ...``."""
    total, term, n = Decimal(1), Decimal(1), 0
    while term > LEAST * total:
        n += 1
        term *= ratio(n)
        total += term
    return total


def log_gamma_tails(log_shape, log_x):
    """Logs of the probabilities up to ``x`` and above under a gamma distribution with scale 1."""
    a, x = log_shape.exp(), log_x.exp()
    total = _series(lambda n: x / (a + n))
    below = a * log_x - x - log_gamma(a + 1) - HALF_LOG_2PI + total.ln()
    return below, (1 - below.exp()).ln()


def log_beta_below(log_a, log_b, logit):
    """Log of the probability up to ``x`` under a beta distribution, by the log odds of ``x``."""
    a, b, x = log_a.exp(), log_b.exp(), 1 / (1 + (-logit).exp())
    if x * (a + b) > a:
        return (1 - log_beta_below(log_b, log_a, -logit).exp()).ln()
    total = _series(lambda n: x * (a + b + n - 1) / (a + n))
    shapes = log_gamma(a + b) - log_gamma(a + 1) - log_gamma(b) - HALF_LOG_2PI
    return shapes + a * x.ln() + b * (1 - x).ln() + total.ln()


def log_student_below(z, log_nu):
    """Log of the probability up to ``z`` under Student's t."""
    half = Decimal("0.5")
    logit = log_nu - (z * z).ln()
    tail = half.ln() + log_beta_below(log_nu + half.ln(), half.ln(), logit)
    return tail if z < 0 else (1 - tail.exp()).ln()


def slope(function, values, j):
    """Derivative of a function of decimals by its argument ``j``."""
    step = Decimal("1e-18")
    moved = ([v + s * step if at == j else v for at, v in enumerate(values)] for s in (1, -1))
    up, down = (function(*m) for m in moved)
    return (up - down) / (2 * step)
