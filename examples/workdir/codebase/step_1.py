"""Fit a damped oscillation to data/samples.csv; write data/result.csv."""

from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit


def displacement(
    t: np.ndarray, amplitude: float, damping: float, frequency: float, phase: float
) -> np.ndarray:
    """Return the displacement of the oscillator at times `t`."""
    return amplitude * np.exp(-damping * t) * np.cos(frequency * t + phase)


t, x, sigma = np.loadtxt("data/samples.csv", delimiter=",", skiprows=1, unpack=True)
start = (2.0, 0.3, 4.7, 0.2)
values, covariance = curve_fit(displacement, t, x, p0=start, sigma=sigma, absolute_sigma=True)
errors = np.sqrt(np.diag(covariance))
chi2 = float(np.sum(((x - displacement(t, *values)) / sigma) ** 2))

names = ("amplitude_cm", "damping_per_s", "angular_frequency_per_s", "phase_rad")
lines = ["parameter,value,error"]
lines += [f"{n},{v:.4f},{e:.4f}" for n, v, e in zip(names, values, errors, strict=True)]
lines += [f"chi2,{chi2:.2f},", f"degrees_of_freedom,{len(t) - len(values)},"]
Path("data/result.csv").write_text("\n".join(lines) + "\n")
