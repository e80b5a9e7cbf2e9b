"""The run-time type checker of the tests: beartype, where a whole number is a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
