"""What a person writes: quantities with units, checks, QEMU versions, and how a scenario becomes kernel records."""
