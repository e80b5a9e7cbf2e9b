"""geofuse: remote-sensing data fusion on xarray, dask and JAX.

Open files as images, put them in pairs on one grid, predict the fine image of another
date, write it, score it:

    import geofuse as gf

    fine = gf.open_optical("landsat.tif", "landsat-c2l2", date="2021-05-01")
    coarse = gf.open_optical("modis.tif", "modis-mod09a1", date="2021-05-01")
    later = gf.open_optical("modis_july.tif", "modis-mod09a1", date="2021-07-01")

    pair = gf.Pair(fine, gf.align(coarse, like=fine, scale=16))
    inputs = gf.FusionInputs([pair], gf.align(later, like=fine, scale=16))
    product = gf.STARFM().predict(inputs)
    gf.write_cog(product.reflectance, "fused_july.tif")

Names are imported when they are used; `__init__.pyi` lists them in that order.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
