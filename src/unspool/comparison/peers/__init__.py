"""Scripts that measure one contender each, run by the Python that has its library. They import nothing of unspool."""
