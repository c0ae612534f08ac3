"""One migration, and many: designs of sweeps, their grid, threads, clusters, stores and tables."""
