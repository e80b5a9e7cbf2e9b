"""What other programs reach on the real scenes: RMSE in reflectance, band by band.

Each was run on the same files, for the same prediction date, and scored on the pixels
that it predicted. Windows are 31x31 on CIA (the USDA C program: 30x30) and a radius of 25
on LGC, where a program has a window. Figures of a program whose settings were chosen while
looking at the truth say so in its name.
"""

from dataclasses import dataclass

import numpy as np

_CIA_ONE = "cia 10-08 > 10-17"
_CIA_TWO = "cia 10-08 11-02 > 10-17"
_LGC = "lgc 11-26 > 12-28"


@dataclass(frozen=True)
class Program:
    """A measured program.

    Attributes:
        case: What it predicted, as `benchmarks.cases` names it.
        method: The method that it is a program of, as geofuse names it; '' for another.
        name: Its name.
        source: Where it is to be had.
        rmse: Band by band, in the order of the case.
    """

    case: str
    method: str
    name: str
    source: str
    rmse: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the bands."""
        return float(np.mean(self.rmse))


_USDA = "USDA ARS, STARFM (C)"
_IMAGEFUSION = "imagefusion (C++), and its R package"
_ZHU = "Xiaolin Zhu, code of the authors in Python"
_WANG = "port of the authors' MATLAB, equal to it under Octave in the interior"
_HOUCAI = "GitHub HoucaiGuo, Python"

PROGRAMS: tuple[Program, ...] = (
    Program(_CIA_ONE, "starfm", "C STARFM", _USDA,
            (0.0124, 0.0129, 0.0184, 0.0447, 0.0659, 0.0559)),
    Program(_CIA_ONE, "starfm", "imagefusion STARFM", _IMAGEFUSION,
            (0.0125, 0.0130, 0.0185, 0.0448, 0.0661, 0.0560)),
    Program(_CIA_ONE, "starfm", "starfm4py", "GitHub nmileva/starfm4py",
            (0.0127, 0.0126, 0.0184, 0.0497, 0.0667, 0.0563)),
    Program(_CIA_ONE, "fit-fc", "Fit-FC, coarse radius 3 (looked at the truth)", _WANG,
            (0.0123, 0.0124, 0.0178, 0.0436, 0.0664, 0.0540)),
    Program(_CIA_ONE, "fit-fc", "Fit-FC, coarse radius 1", _WANG,
            (0.0123, 0.0134, 0.0183, 0.0516, 0.0689, 0.0544)),
    Program(_CIA_ONE, "fit-fc", "imagefusion Fit-FC", _IMAGEFUSION,
            (0.0119, 0.0125, 0.0180, 0.0549, 0.0638, 0.0510)),
    Program(_CIA_ONE, "fsdaf", "FSDAF.py", _ZHU,
            (0.0126, 0.0128, 0.0180, 0.0405, 0.0635, 0.0546)),
    Program(_CIA_TWO, "starfm", "C STARFM", _USDA,
            (0.0119, 0.0125, 0.0185, 0.0422, 0.0564, 0.0475)),
    Program(_CIA_TWO, "starfm", "imagefusion STARFM", _IMAGEFUSION,
            (0.0120, 0.0126, 0.0186, 0.0422, 0.0567, 0.0477)),
    Program(_CIA_TWO, "estarfm", "imagefusion ESTARFM", _IMAGEFUSION,
            (0.0111, 0.0117, 0.0164, 0.0361, 0.0478, 0.0415)),
    Program(_CIA_TWO, "estarfm", "ESTARFM.py", _ZHU,
            (0.0112, 0.0118, 0.0168, 0.0388, 0.0485, 0.0421)),
    Program(_CIA_TWO, "", "mean of linear in time and imagefusion ESTARFM", _IMAGEFUSION,
            (0.0102, 0.0110, 0.0155, 0.0318, 0.0487, 0.0424)),
    Program(_LGC, "starfm", "C STARFM, 4 slices", _USDA, (0.0121, 0.0161, 0.0443)),
    Program(_LGC, "starfm", "C STARFM, 40 slices", _USDA, (0.0127, 0.0168, 0.0458)),
    Program(_LGC, "starfm", "imagefusion STARFM", _IMAGEFUSION,
            (0.0127, 0.0169, 0.0459)),
    Program(_LGC, "fit-fc", "Fit-FC, coarse radius 5 (looked at the truth)", _WANG,
            (0.0101, 0.0139, 0.0374)),
    Program(_LGC, "fit-fc", "Fit-FC, coarse radius 1", _WANG, (0.0108, 0.0148, 0.0398)),
    Program(_LGC, "fit-fc", "imagefusion Fit-FC", _IMAGEFUSION,
            (0.0106, 0.0147, 0.0389)),
    Program(_LGC, "fsdaf", "FSDAF_Preclassification.py, SVM map", _ZHU,
            (0.0098, 0.0135, 0.0356)),
    Program(_LGC, "fsdaf", "FSDAF.py", _ZHU, (0.0101, 0.0138, 0.0365)),
    Program(_LGC, "unmixing", "UBDF, SVM classes, 7x7 (best of several)", _HOUCAI,
            (0.0168, 0.0230, 0.0571)),
)  # fmt: skip


def best_program(case: str, method: str) -> Program | None:
    """The program of a method with the lowest band-mean RMSE on a case."""
    found = [p for p in PROGRAMS if (p.case, p.method) == (case, method)]
    return min(found, key=lambda program: program.mean, default=None)


def best_of_bands(case: str) -> tuple[float, ...]:
    """The lowest RMSE of any program, band by band; empty where none was measured."""
    found = [program.rmse for program in PROGRAMS if program.case == case]
    return tuple(float(value) for value in np.min(found, axis=0)) if found else ()
