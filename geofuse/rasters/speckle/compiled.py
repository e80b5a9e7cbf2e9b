"""How the kernels of this package are compiled.

No fast math: every sum is taken in the order in which it stands, so that a pixel's value
does not depend on the tile in which it lies, and no two operations are contracted to one.
Threads are dask's: each works on its own tile, outside Python's lock.

Below this decorator each kernel has `typing.no_type_check`, or the run-time type checker
of the tests would stand between a function and Numba.
"""

from numba import njit

compiled = njit(cache=True, nogil=True, error_model="numpy")
