"""The indexing pipeline: from folders of image files to embeddings in a catalog.

`pipeline` gives the order of the steps, `loader` is the work of one thread on one file, and
`indexer` keeps the books of a run.
"""
