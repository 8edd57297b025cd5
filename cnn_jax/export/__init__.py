"""Makes of a run a folder that others can use without this package: its network, a card, a record.

`program` is what a network computes as one function of stored images, `judging` its verdicts by
what `trust` promised; one module a format writes the file, `checking` compares it with the run, and
`exporting` is the order of it all.
"""
