"""The lake: layout of paths, atomic writes, reads as Arrow, compaction, receipts and the archive.

Import the module you need (`store`, `receipts`, `archive`); nothing heavy is loaded here.
"""
