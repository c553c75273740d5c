"""One table of cases for every primitive: `casework` says what a case is, and the families list theirs."""

from __future__ import annotations

from cases_elementwise import elementwise
from cases_linalg import linalg
from cases_reductions import reductions
from cases_shaping import indexing, shaping
from casework import POSITIVE, SIGNED, Case, case, spread

__all__ = ["CASES", "POSITIVE", "SIGNED", "Case", "case", "spread"]

CASES = [*elementwise(), *reductions(), *shaping(), *linalg(), *indexing()]
