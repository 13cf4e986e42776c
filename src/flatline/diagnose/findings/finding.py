"""What a finding is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Remedy:
    """A treatment that may help, and why."""

    treatment: str
    why: str


@dataclass(frozen=True)
class Finding:
    """A statement about the model.

    Attributes:
        code: One of :data:`~flatline.diagnose.names.CODES`.
        severity: One of :data:`~flatline.diagnose.names.SEVERITIES`.
        sites: Names of the sites concerned, the worst first.
        share: Share of the worst site's units.
        message: One sentence with numbers.
        evidence: The numbers the statement rests on, about the worst site.
        remedies: What may help, the best first; :mod:`flatline.diagnose.remedies` adds them.
        explains: Codes of findings that are symptoms of this one; they are not raised beside it
            at the same severity. A search gives all that it would explain; a report names those
            that were found.
    """

    code: str
    severity: str
    sites: tuple[str, ...]
    share: float
    message: str
    evidence: dict[str, float] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()
    explains: tuple[str, ...] = ()
