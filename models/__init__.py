"""Networks for ECG records and the registry that makes them by name."""
