"""An example of each command, for its ``--help``."""

from __future__ import annotations

EXAMPLES = {
    "run": "batchflow run jobs/quickstart.toml --set train.epochs=4",
    "mocks": "batchflow mocks jobs/quickstart.toml",
    "train": "batchflow train jobs/quickstart.toml --set train.max_minutes=10",
    "infer": "batchflow infer jobs/quickstart.toml --set infer.draws=1000 --mode restart",
    "validate": "batchflow validate jobs/quickstart.toml",
    "report": "batchflow report jobs/quickstart.toml",
    "fit": "batchflow fit jobs/quickstart.toml",
    "check": "batchflow check jobs/quickstart.toml",
    "submit": "batchflow submit jobs/legus.toml --dry-run",
    "jobs": "batchflow jobs runs/legus",
    "cancel": "batchflow cancel runs/legus",
    "status": "batchflow status jobs/quickstart.toml",
    "model": "batchflow model jobs/quickstart.toml model.png --plot --at log_age=7,ebv=0.3",
    "model-card": "batchflow model-card runs/quickstart",
    "catalogue": "batchflow catalogue m33_phatter_clusters.fits --distance 0.859 --plot m33.png",
    "query": (
        'batchflow query runs/quickstart "SELECT galaxy, object_id, p_below(log_age, log_weight, 7) AS p '
        'FROM draws ORDER BY p DESC LIMIT 10"'
    ),
    "export": "batchflow export runs/quickstart clusters.fits --columns galaxy,object_id,log_age_q50",
    "provenance": "batchflow provenance clusters.fits",
    "cite": "batchflow cite runs/quickstart --bibtex",
    "flags": "batchflow flags runs/quickstart",
    "reweight": 'batchflow reweight runs/quickstart --prior "log_mass.power_law=[-2,2,8]" --out steep',
    "population": "batchflow population runs/quickstart --joint --without LOW_EFFICIENCY",
}
"""A line to type, by the command's name."""


def epilog(name: str) -> str | None:
    """What stands below the options; None for a command without an example."""
    return f"Example: {EXAMPLES[name]}" if name in EXAMPLES else None
