"""What a data file may ask of this machine: every bound in one place.

Data files are untrusted.  Each bound is generous for real data and keeps a hostile file within about 1 GiB and 20 seconds.
"""

PIXELS = 1 << 26
"""Pixels of one picture (64 Mi: 8192 x 8192)."""
BIG_PICTURE = 1 << 23
"""Pictures above this many pixels are decoded one at a time, so that many cores do not multiply their memory."""
ASPECT = 200
"""Longest over shortest side of a picture."""
ROW_BYTES = 1 << 26
"""Encoded bytes of one row (64 MiB): a file of an image folder, a member of a tar, a cell of a table."""
ROW_VALUES = 1 << 26
"""Decoded numbers of one row of unequal length."""
LINE_BYTES = 1 << 24
"""Bytes of one line of text, CSV or JSONL (16 MiB)."""
RATIO = 200
"""Decompressed bytes for one compressed byte, above DECOMPRESSED."""
DECOMPRESSED = 1 << 26
"""Decompressed bytes that are accepted at any ratio (64 MiB)."""
WINDOW = 1 << 27
"""Memory that a compressed stream may ask its decoder to hold (128 MiB)."""
ANNOTATION_BYTES = 1 << 30
"""Bytes of a file of annotations that is read whole (1 GiB)."""
HEADER_BYTES = 1 << 20
"""Bytes of one header of a tar, npy or npz file."""
FOOTER_BYTES = 1 << 24
"""Bytes of the footer of a Parquet file."""
COLUMNS = 10_000
"""Columns of a table."""
JSON_DEPTH = 64
"""Nesting of one JSON row."""
MEMBERS = 1 << 24
"""Members of a tar, files of a folder."""
ZIP_MEMBERS = 1_000
"""Arrays of an npz file."""
FOLDER_DEPTH = 32
"""Nesting of folders."""
CELL_BATCH_BYTES = 1 << 25
"""Bytes of a Parquet column that are read at once (32 MiB), if every row were as long as a row can be."""
