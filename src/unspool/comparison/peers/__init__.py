"""Peers, each run by the Python that has its library. All but `unspool_layer` are scripts that import no unspool."""
