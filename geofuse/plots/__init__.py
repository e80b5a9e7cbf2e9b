"""Pictures of images: xarray in, matplotlib out.

    true_or_false_color(images)        three bands as red, green and blue
    error_map(predicted, reference)    predicted minus true, of one band
    panel(inputs, products, truth)     a whole case: inputs, products, errors
    feature_panel(features)            each feature in gray, in a stretch of its own
    misregistration_map(report, fine)  arrows: how far the coarse image lies off
    kernel_panel(kernels, fine, …)     the kernels of methods at one pixel
    land_cover_map(product, legend)    a map of classes, its doubt, weights of modalities
    confusion_plot(matrix)             an error matrix
    reliability_plot(curves)           how sure against how often right
    cost_figure(points)                error against seconds, and who is not beaten in both

Pictures that are to be compared share one stretch of colors. Invalid pixels are
hatched: they are neither dark ground nor a small error. Only every n-th pixel is kept,
so that a picture of a raster of any size takes the same memory. Nothing is shown on a
screen: functions return a figure, and `png` makes it a file.

Errors are blue, white and red (ColorBrewer's RdBu), which color-blind readers can tell
apart.
"""

from geofuse.plots.cost import CostPoint as CostPoint
from geofuse.plots.cost import cost_figure as cost_figure
from geofuse.plots.kernels import kernel_panel as kernel_panel
from geofuse.plots.land_cover import class_picture as class_picture
from geofuse.plots.land_cover import confusion_plot as confusion_plot
from geofuse.plots.land_cover import land_cover_map as land_cover_map
from geofuse.plots.land_cover import reliability_plot as reliability_plot
from geofuse.plots.maps import error_map as error_map
from geofuse.plots.maps import feature_panel as feature_panel
from geofuse.plots.maps import misregistration_map as misregistration_map
from geofuse.plots.maps import panel as panel
from geofuse.plots.maps import true_or_false_color as true_or_false_color
from geofuse.plots.pictures import ERROR_COLORS as ERROR_COLORS
from geofuse.plots.pictures import VIEW as VIEW
from geofuse.plots.pictures import Composite as Composite
from geofuse.plots.pictures import ErrorMaps as ErrorMaps
from geofuse.plots.pictures import composite as composite
from geofuse.plots.pictures import decimated as decimated
from geofuse.plots.pictures import errors as errors
from geofuse.plots.pictures import pixel_in_words as pixel_in_words
from geofuse.plots.pictures import png as png
from geofuse.plots.pictures import save_picture as save_picture
