"""What is looked at before a training begins: displacement between channels, and bad pairs."""

from livestain.training.checks.correction import Correction, corrected
from livestain.training.checks.looking import run_checks
from livestain.training.checks.quality import BadPair
from livestain.training.checks.registration import Registration
from livestain.training.checks.report import CheckReport, TargetStatistics
from livestain.training.checks.telling import sentences

__all__ = [
    "BadPair",
    "CheckReport",
    "Correction",
    "Registration",
    "TargetStatistics",
    "corrected",
    "run_checks",
    "sentences",
]
