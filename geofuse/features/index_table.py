"""The common spectral and radar indices, as a table of formulas.

A new index is a row: a name, a formula over bands by common name, what it is for, what
it is called in words, who made it, and its name in the spyndex catalogue
(github.com/awesome-spectral-indices), whose formula it then equals. Names that are no
bands are constants: `DEFAULTS` holds the values of the catalogue.

Optical bands are reflectance (0 to 1), radar bands linear power: never dB.
"""

from typing import NamedTuple


class Index(NamedTuple):
    """One index.

    Attributes:
        name: Name by which it is asked for.
        formula: Over bands by common name, and constants.
        domain: What it is for: vegetation, water, burn, built, snow, soil, radar; for
            indices of the catalogue also clouds, kernel, urban; 'own' for a user's.
        title: Its name in words.
        source: Authors and year, or a link.
        catalogue: Its name in the spyndex catalogue; empty if it is not there.
    """

    name: str
    formula: str
    domain: str
    title: str = ""
    source: str = ""
    catalogue: str = ""


#: Constants of formulas and their defaults, those of the catalogue. SAVI is often used
#: with L=0.5, which then must be given: EVI has an L of 1, and one name is one value.
DEFAULTS = {
    "C1": 6.0,
    "C2": 7.5,
    "L": 1.0,
    "alpha": 0.1,
    "gamma": 1.0,
    "g": 2.5,
    "sigma": 0.5,
}

#: A band may be there under another common name (STAC has renamed some).
ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "nir": ("nir08",),
    "nir08": ("nir",),
    "swir1": ("swir16",),
    "swir2": ("swir22",),
    "rededge1": ("rededge071", "rededge"),
    "rededge2": ("rededge075",),
    "rededge3": ("rededge078",),
    "lwir": ("lwir11",),
    "lwir11": ("lwir",),
}

# fmt: off
_VEGETATION = (
    Index("ndvi", "(nir - red) / (nir + red)", "vegetation",
          "normalized difference vegetation index", "Rouse et al. 1974", "NDVI"),
    Index("gndvi", "(nir - green) / (nir + green)", "vegetation",
          "green NDVI", "Gitelson et al. 1996", "GNDVI"),
    Index("bndvi", "(nir - blue) / (nir + blue)", "vegetation",
          "blue NDVI", "Wang et al. 2007", "BNDVI"),
    Index("evi", "g * (nir - red) / (nir + C1 * red - C2 * blue + L)", "vegetation",
          "enhanced vegetation index", "Huete et al. 1997", "EVI"),
    Index("evi2", "g * (nir - red) / (nir + 2.4 * red + L)", "vegetation",
          "two-band enhanced vegetation index", "Jiang et al. 2008", "EVI2"),
    Index("savi", "(1 + L) * (nir - red) / (nir + red + L)", "vegetation",
          "soil-adjusted vegetation index", "Huete 1988", "SAVI"),
    Index("osavi", "(nir - red) / (nir + red + 0.16)", "vegetation",
          "optimized SAVI", "Rondeaux et al. 1996", "OSAVI"),
    Index("msavi",
          "0.5 * (2 * nir + 1 - sqrt((2 * nir + 1) ** 2 - 8 * (nir - red)))",
          "vegetation", "modified SAVI", "Qi et al. 1994", "MSAVI"),
    Index("arvi",
          "(nir - (red - gamma * (red - blue))) / (nir + (red - gamma * (red - blue)))",
          "vegetation", "atmospherically resistant vegetation index",
          "Kaufman and Tanre 1992", "ARVI"),
    Index("vari", "(green - red) / (green + red - blue)", "vegetation",
          "visible atmospherically resistant index", "Gitelson et al. 2002", "VARI"),
    Index("gli", "(2 * green - red - blue) / (2 * green + red + blue)", "vegetation",
          "green leaf index", "Louhaichi et al. 2001", "GLI"),
    Index("exg", "2 * green - red - blue", "vegetation",
          "excess green", "Woebbecke et al. 1995", "ExG"),
    Index("ngrdi", "(green - red) / (green + red)", "vegetation",
          "normalized green red difference index", "Tucker 1979", "NGRDI"),
    Index("ndyi", "(green - blue) / (green + blue)", "vegetation",
          "normalized difference yellowness index", "Sulik and Long 2016", "NDYI"),
    Index("dvi", "nir - red", "vegetation",
          "difference vegetation index", "Roujean and Breon 1995", "DVI"),
    Index("sr", "nir / red", "vegetation", "simple ratio", "Jordan 1969", "SR"),
    Index("wdrvi", "(alpha * nir - red) / (alpha * nir + red)", "vegetation",
          "wide dynamic range vegetation index", "Gitelson 2004", "WDRVI"),
    Index("gemi",
          "(2 * (nir ** 2 - red ** 2) + 1.5 * nir + 0.5 * red) / (nir + red + 0.5)"
          " * (1 - 0.25 * ((2 * (nir ** 2 - red ** 2) + 1.5 * nir + 0.5 * red)"
          " / (nir + red + 0.5))) - (red - 0.125) / (1 - red)",
          "vegetation", "global environment monitoring index",
          "Pinty and Verstraete 1992", "GEMI"),
    Index("cig", "nir / green - 1", "vegetation",
          "chlorophyll index green", "Gitelson et al. 2003", "CIG"),
    Index("nirv", "(nir - red) / (nir + red) * nir", "vegetation",
          "near-infrared reflectance of vegetation", "Badgley et al. 2017", "NIRv"),
    Index("kndvi", "tanh(((nir - red) / (2 * sigma)) ** 2)", "vegetation",
          "kernel NDVI, radial basis of length sigma", "Camps-Valls et al. 2021",
          "kNDVI"),
    Index("ndmi", "(nir - swir1) / (nir + swir1)", "vegetation",
          "normalized difference moisture index", "Wilson and Sader 2002", "NDMI"),
    Index("msi", "swir1 / nir", "vegetation",
          "moisture stress index", "Hunt and Rock 1989", "MSI"),
    Index("nmdi", "(nir - (swir1 - swir2)) / (nir + (swir1 - swir2))", "vegetation",
          "normalized multi-band drought index", "Wang and Qu 2007", "NMDI"),
)
_RED_EDGE = (
    Index("ndre", "(nir - rededge1) / (nir + rededge1)", "vegetation",
          "normalized difference red edge", "Gitelson and Merzlyak 1994", "NDREI"),
    Index("ndvi705", "(rededge2 - rededge1) / (rededge2 + rededge1)", "vegetation",
          "NDVI of 705 and 750 nm", "Gitelson and Merzlyak 1994", "NDVI705"),
    Index("cire", "nir / rededge1 - 1", "vegetation",
          "chlorophyll index red edge", "Gitelson et al. 2003", "CIRE"),
    Index("mcari", "((rededge1 - red) - 0.2 * (rededge1 - green)) * (rededge1 / red)",
          "vegetation", "modified chlorophyll absorption in reflectance index",
          "Daughtry et al. 2000", "MCARI"),
    Index("mtci", "(rededge2 - rededge1) / (rededge1 - red)", "vegetation",
          "MERIS terrestrial chlorophyll index", "Dash and Curran 2004", "MTCI"),
    Index("ireci", "(rededge3 - red) / (rededge1 / rededge2)", "vegetation",
          "inverted red-edge chlorophyll index", "Frampton et al. 2013", "IRECI"),
    Index("s2rep",
          "705 + 35 * (((rededge3 + red) / 2 - rededge1) / (rededge2 - rededge1))",
          "vegetation", "Sentinel-2 red-edge position in nanometers",
          "Frampton et al. 2013", "S2REP"),
    Index("psri", "(red - blue) / rededge2", "vegetation",
          "plant senescing reflectance index", "Merzlyak et al. 1999", "PSRI"),
)
_WATER = (
    Index("ndwi", "(green - nir) / (green + nir)", "water",
          "normalized difference water index", "McFeeters 1996", "NDWI"),
    Index("mndwi", "(green - swir1) / (green + swir1)", "water",
          "modified NDWI", "Xu 2006", "MNDWI"),
    Index("lswi", "(nir - swir1) / (nir + swir1)", "water",
          "land surface water index", "Xiao et al. 2004", "LSWI"),
    Index("aweinsh", "4 * (green - swir1) - 0.25 * nir + 2.75 * swir2", "water",
          "automated water extraction index, without shadows", "Feyisa et al. 2014",
          "AWEInsh"),
    Index("aweish", "blue + 2.5 * green - 1.5 * (nir + swir1) - 0.25 * swir2", "water",
          "automated water extraction index, with shadows", "Feyisa et al. 2014",
          "AWEIsh"),
    Index("wi2015",
          "1.7204 + 171 * green + 3 * red - 70 * nir - 45 * swir1 - 71 * swir2",
          "water", "water index 2015", "Fisher et al. 2016", "WI2015"),
    Index("ndci", "(rededge1 - red) / (rededge1 + red)", "water",
          "normalized difference chlorophyll index", "Mishra and Mishra 2012", "NDCI"),
    Index("ndti", "(red - green) / (red + green)", "water",
          "normalized difference turbidity index", "Lacaux et al. 2007", "NDTI"),
)
_BURN = (
    Index("nbr", "(nir - swir2) / (nir + swir2)", "burn",
          "normalized burn ratio", "Key and Benson", "NBR"),
    Index("nbr2", "(swir1 - swir2) / (swir1 + swir2)", "burn",
          "normalized burn ratio 2", "USGS", "NBR2"),
    Index("bai", "1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)", "burn",
          "burned area index", "Martin 1998", "BAI"),
    Index("bais2",
          "(1 - sqrt(rededge2 * rededge3 * nir08 / red))"
          " * ((swir2 - nir08) / sqrt(swir2 + nir08) + 1)",
          "burn", "burned area index for Sentinel-2", "Filipponi 2018", "BAIS2"),
    Index("mirbi", "10 * swir2 - 9.8 * swir1 + 2", "burn",
          "mid-infrared burn index", "Trigg and Flasse 2001", "MIRBI"),
)
_BUILT = (
    Index("ndbi", "(swir1 - nir) / (swir1 + nir)", "built",
          "normalized difference built-up index", "Zha et al. 2003", "NDBI"),
    Index("ui", "(swir2 - nir) / (swir2 + nir)", "built",
          "urban index", "Kawamura et al. 1996", "UI"),
    Index("ibi",
          "((swir1 - nir) / (swir1 + nir) - ((nir - red) * (1 + L) / (nir + red + L)"
          " + (green - swir1) / (green + swir1)) / 2)"
          " / ((swir1 - nir) / (swir1 + nir) + ((nir - red) * (1 + L) / (nir + red + L)"
          " + (green - swir1) / (green + swir1)) / 2)",
          "built", "index-based built-up index", "Xu 2008", "IBI"),
    Index("blfei",
          "((green + red + swir2) / 3 - swir1) / ((green + red + swir2) / 3 + swir1)",
          "built", "built-up land features extraction index",
          "Bouhennache et al. 2019", "BLFEI"),
)
_SNOW = (
    Index("ndsi", "(green - swir1) / (green + swir1)", "snow",
          "normalized difference snow index", "Riggs et al. 1994", "NDSI"),
    Index("ndsii", "(green - nir) / (green + nir)", "snow",
          "normalized difference snow ice index", "doi.org/10.1080/01431160802385459",
          "NDSII"),
    Index("swi", "green * (nir - swir1) / ((green + nir) * (nir + swir1))", "snow",
          "snow water index", "Dixit et al. 2019", "SWI"),
)
_SOIL = (
    Index("bi", "((swir1 + red) - (nir + blue)) / ((swir1 + red) + (nir + blue))",
          "soil", "bare soil index", "Rikimaru et al.", "BI"),
    Index("dbsi",
          "(swir1 - green) / (swir1 + green) - (nir - red) / (nir + red)",
          "soil", "dry bareness index", "Rasul et al. 2018", "DBSI"),
    Index("ndsoi", "(swir2 - green) / (swir2 + green)", "soil",
          "normalized difference soil index", "Deng et al. 2015", "NDSoI"),
)
_RADAR = (
    Index("rvi", "4 * vh / (vv + vh)", "radar",
          "radar vegetation index of VV and VH", "doi.org/10.3390/app9040655",
          "DpRVIVV"),
    Index("rvi_hh", "4 * hv / (hh + hv)", "radar",
          "radar vegetation index of HH and HV", "doi.org/10.5589/m12-043", "DpRVIHH"),
    Index("rvi_quad", "8 * hv / (hh + vv + 2 * hv)", "radar",
          "radar vegetation index of four polarizations", "Kim and van Zyl 2001",
          "QpRVI"),
    Index("rfdi", "(hh - hv) / (hh + hv)", "radar",
          "radar forest degradation index", "doi.org/10.5194/bg-9-179-2012", "RFDI"),
    Index("ndpoli", "(vv - vh) / (vv + vh)", "radar",
          "normalized difference polarization index", "ISPRS congress 2008", "NDPolI"),
    Index("vv_vh_ratio", "vv / vh", "radar",
          "ratio of VV and VH", "doi.org/10.3390/app9040655", "VVVHR"),
    Index("vh_vv_ratio", "vh / vv", "radar",
          "ratio of VH and VV", "doi.org/10.1109/IGARSS47720.2021.9554099", "VHVVR"),
    Index("vv_vh_sum", "vv + vh", "radar",
          "sum of VV and VH", "doi.org/10.1109/IGARSS47720.2021.9554099", "VVVHS"),
)
# fmt: on

#: The built-in indices by name.
INDICES: dict[str, Index] = {
    index.name: index
    for group in (
        _VEGETATION,
        _RED_EDGE,
        _WATER,
        _BURN,
        _BUILT,
        _SNOW,
        _SOIL,
        _RADAR,
    )
    for index in group
}
