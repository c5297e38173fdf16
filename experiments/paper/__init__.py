"""What the reproductions of the Adam paper's figures share.

Reading order: digitised.py and figures.csv (what the paper shows), figure.py (what a script does), curves.py (train the
lines of a figure), search.py (choose their settings), table.py (rows on disk), checks.py (is it what the paper found?),
picture.py, options.py (the command line and the record of a run), nesterov.py.
"""
