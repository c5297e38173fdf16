"""What arrives from outside: datasets, and the batches cut from them. Nothing heavy is imported before it is needed.

Reading order: loading.py (`load`), hub.py (what a dataset must look like), images.py and text.py (what is made of it),
store.py (the decoded copy), known.py (is it the real one?), splits.py and batches.py (what training consumes).
"""

from scratchnet.data.batches import Rows, batches, count_batches, scale
from scratchnet.data.hub import DataError
from scratchnet.data.loading import SHORT_NAMES, check_name, load, slug
from scratchnet.data.splits import Dataset, Split, hold_out
