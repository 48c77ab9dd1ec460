"""Many runs of one config: over grids, at random or by Bayesian search, seeds and folds."""
