"""How like recorded fluorescence a model's predictions are: scores, controls, intervals and a page.

`evaluate` puts a bundle against recorded pairs; `scores` compares one prediction with one target,
`segmentation` and `frc` are the larger of its metrics; `statistics` makes tables and intervals of them;
`flicker` looks along time; `table` and `page` write what was found for people.
"""
