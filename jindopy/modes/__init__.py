"""The one place that wires the program: one file per mode."""
