"""How sure a prediction is, and whether its stated uncertainty matches the error."""
