"""From parameters to fluxes: spectra, dust, bands, engines."""
