"""Statements about the model: what is wrong, on what evidence, how bad, what may help."""

from __future__ import annotations

# Importing a module registers its findings.
from flatline.diagnose.findings import course as _course  # noqa: F401
from flatline.diagnose.findings import data as _data  # noqa: F401
from flatline.diagnose.findings import deaths as _deaths  # noqa: F401
from flatline.diagnose.findings import gradients as _gradients  # noqa: F401
from flatline.diagnose.findings import initial as _initial  # noqa: F401
from flatline.diagnose.findings import parameters as _parameters  # noqa: F401
from flatline.diagnose.findings import ranks as _ranks  # noqa: F401
from flatline.diagnose.findings import rates as _rates  # noqa: F401
from flatline.diagnose.findings import slow as _slow  # noqa: F401
from flatline.diagnose.findings import structure as _structure  # noqa: F401
from flatline.diagnose.findings import units as _units  # noqa: F401
from flatline.diagnose.findings import updates as _updates  # noqa: F401
from flatline.diagnose.findings.base import CODES as CODES
from flatline.diagnose.findings.base import SEVERITIES as SEVERITIES
from flatline.diagnose.findings.base import Finding as Finding
from flatline.diagnose.findings.base import Remedy as Remedy
from flatline.diagnose.findings.base import find as find
from flatline.diagnose.findings.base import finding as finding
from flatline.diagnose.findings.base import verdict as verdict
