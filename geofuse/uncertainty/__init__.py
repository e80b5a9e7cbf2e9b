"""How sure a prediction is, and whether its stated uncertainty matches the error.

    intervals       so many standard deviations on each side
    calibration     scores of Gaussians and intervals: coverage, CRPS, NLL, ENCE, …
    sparsification  does the uncertainty rank the errors
    strata          coverage by tenths of the change, classes, dates
    temperature     one factor on the variance of a band, from held-out errors
    conformal       the factor that covers as promised, by scenes, dates or sites
    classes         the same of probabilities of classes: NLL, Brier, ECE, temperature, …
    class_sets      sets of classes that hold the true one as often as promised

Arrays in, numbers out: nothing here knows rasters.
"""
