"""Evaluation suites: other sets of images on which a classifier of ImageNet's classes is tested.

`table` says which there are and where they lie, `sets` opens them, `task` counts what is right and
`results` sums up. `training.suites` evaluates them.
"""
