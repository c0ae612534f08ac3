"""What sweeps tell: frontiers, sensitivity, uncertainty, and the closed form beside them."""
