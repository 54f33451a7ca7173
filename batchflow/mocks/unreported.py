"""Fractional errors that no catalogue reports, gathered from the job's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batchflow.config import Job
from batchflow.errors import UserError, nearest


@dataclass(frozen=True)
class Unreported:
    """Fractions of the true flux that are added in quadrature, independently in each band."""

    systematic: float
    """Of the survey: zero points, aperture corrections; where it has none of its own."""
    by_survey: Mapping[str, float] = field(default_factory=dict)
    """Of surveys that have their own."""
    model_error: Mapping[str, float] = field(default_factory=dict)
    """Of the model's spectra, by band; zero where not given."""

    def table(self, surveys: Sequence[str], bands: Sequence[str]) -> NDArray[np.float64]:
        """As `NoiseModel.systematic` has it.

        Parameters
        ----------
        surveys, bands : sequence of str
            Of the noise model.

        Returns
        -------
        ndarray, shape (n_surveys + 1, n_bands)
            The last row is for surveys that are not known.

        Raises
        ------
        UserError
            When a survey with a value of its own is not among the surveys.
        """
        if strangers := [name for name in self.by_survey if name not in surveys]:
            raise UserError(
                f"catalogue {strangers[0]!r} has systematic = {self.by_survey[strangers[0]]:g}, but no row "
                f"is of a survey of that name; {nearest(strangers[0], surveys)}"
            )
        survey = [*(self.by_survey.get(name, self.systematic) for name in surveys), self.systematic]
        model = [self.model_error.get(band, 0.0) for band in bands]
        return np.hypot(np.array(survey)[:, None], np.array(model)[None, :])


def unreported_errors(job: Job, surveys: Mapping[str, Sequence[str]] | None = None) -> Unreported:
    """What the job says of errors that its catalogues do not report.

    Parameters
    ----------
    job : Job
        Its sections [noise] and [[catalogue]].
    surveys : mapping of str to sequence of str, optional
        Surveys that each catalogue turned out to hold, by its name; default the one of that name.

    Returns
    -------
    Unreported
        For `estimate.estimate_noise`.
    """
    given = job.noise.model_error
    by_band = given if isinstance(given, dict) else dict.fromkeys(job.model.bands, given)
    own = {
        name: entry.systematic
        for entry in job.catalogue
        if entry.systematic is not None
        for name in (surveys or {}).get(entry.survey, (entry.survey,))
    }
    return Unreported(job.noise.systematic, own, by_band)
